//! Which files of a repository make the model that was asked for.

use std::collections::BTreeMap;

use super::PullError;
use super::direct::is_gguf;

/// Tried in this order when nobody says which.
const USUAL: [&str; 3] = ["q4_k_m", "q4_0", "q8_0"];
/// What stands beside safetensors.
const BESIDE: [&str; 4] = [".json", ".jinja", ".model", ".txt"];
/// Of a split model nobody has more parts than this.
const MOST_PARTS: u32 = 999;
const INDEX: &str = "model.safetensors.index.json";
const WHOLE: &str = "model.safetensors";

/// The paths, of all these, of the files that are wanted.
pub(super) fn pick<'a>(paths: &[&'a str], quant: Option<&str>) -> Result<Vec<&'a str>, PullError> {
    let has_safetensors = paths.iter().any(|path| is_root(path) && path.ends_with(".safetensors"));
    let has_gguf = paths.iter().any(|path| is_gguf(path));
    match (has_safetensors && paths.contains(&"config.json"), has_gguf, quant) {
        (_, true, Some(_)) | (false, true, None) => gguf(paths, quant),
        (true, _, None) => safetensors(paths),
        (_, false, Some(quant)) => Err(PullError::Hub(format!("it has no GGUF files, so none of {quant}"))),
        (false, false, None) => {
            Err(PullError::Hub("it has neither GGUF files nor safetensors with a config.json".into()))
        }
    }
}

/// `<stem>-00001-of-00003`: the stem, which part, and of how many.
pub(super) fn shard(text: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = text.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let read = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
    let (number, count) = (read(number)?, read(count)?);
    let sound = !stem.is_empty() && (1..=count).contains(&number) && count <= MOST_PARTS;
    sound.then_some((stem, number, count))
}

fn is_root(path: &str) -> bool {
    !path.contains('/')
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn gguf<'a>(paths: &[&'a str], quant: Option<&str>) -> Result<Vec<&'a str>, PullError> {
    let of_kind = |projectors: bool| {
        let files = paths.iter().copied().filter(|path| is_gguf(path));
        files.filter(move |path| file_name(path).to_ascii_lowercase().contains("mmproj") == projectors)
    };
    // By what they are called but for the number of the part: a model each.
    let mut models: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in of_kind(false).filter(|path| !file_name(path).to_ascii_lowercase().contains("imatrix")) {
        let stem = &path[..path.len() - ".gguf".len()];
        models.entry(shard(stem).map_or(stem, |(stem, ..)| stem)).or_default().push(path);
    }
    let of_quant = |quant: &str| models.keys().copied().filter(|stem| is_of(stem, quant)).min_by_key(|stem| stem.len());
    let found = match quant {
        Some(quant) => of_quant(&quant.to_ascii_lowercase()),
        None if models.len() == 1 => models.keys().copied().next(),
        None => USUAL.iter().find_map(|quant| of_quant(quant)),
    };
    let Some(stem) = found else {
        let there: Vec<&str> = models.keys().map(|stem| file_name(stem)).take(40).collect();
        let asked = quant.map_or_else(|| "say which with `:QUANT`".to_owned(), |quant| format!("none is {quant}"));
        return Err(PullError::Hub(format!("of its GGUF files {asked}; there are {}", there.join(", "))));
    };
    let mut picked = models.remove(stem).unwrap_or_default();
    picked.sort_unstable();
    let parts: Vec<_> = picked.iter().map(|path| shard(&path[..path.len() - ".gguf".len()])).collect();
    let count = parts.first().copied().flatten().map_or(1, |(.., count)| count);
    if parts.len() as u64 != u64::from(count) {
        return Err(PullError::Hub(format!("of {count} parts of `{stem}` it has {}", parts.len())));
    }
    let projectors: Vec<&str> = of_kind(true).collect();
    let preferred =
        |kind: &str| projectors.iter().find(|path| is_of(&path[..path.len() - 5].to_ascii_lowercase(), kind));
    picked.extend(preferred("f16").or_else(|| preferred("bf16")).or_else(|| projectors.first()));
    Ok(picked)
}

/// Whether what a file is called ends with a quantisation, in lower case.
fn is_of(stem: &str, quant: &str) -> bool {
    let stem = file_name(stem).to_ascii_lowercase();
    // `K_M` is no quantisation, though `Q4_K_M` ends with it.
    let whole = quant.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    let is_whole = whole != quant && whole.starts_with(|letter: char| letter.is_ascii_digit());
    stem.strip_suffix(quant)
        .is_some_and(|before| before.is_empty() || before.ends_with(['-', '.']) || (before.ends_with('_') && is_whole))
}

/// The weights, in parts where an index tells of parts, and what tells of them.
fn safetensors<'a>(paths: &[&'a str]) -> Result<Vec<&'a str>, PullError> {
    let part = |path: &str| match shard(path.strip_suffix(".safetensors")?) {
        Some(("model", _, count)) => Some(count),
        _ => None,
    };
    let parts: Vec<_> = paths.iter().filter_map(|path| part(path)).collect();
    let is_split = !parts.is_empty() && (paths.contains(&INDEX) || !paths.contains(&WHOLE));
    if let Some(count) = parts.first().filter(|count| is_split && parts.len() as u64 != u64::from(**count)) {
        return Err(PullError::Hub(format!("of {count} parts of its weights it has {}", parts.len())));
    }
    let weights = |path: &str| match is_split {
        true => part(path).is_some(),
        false if paths.contains(&WHOLE) => path == WHOLE,
        false => path.ends_with(".safetensors"),
    };
    let beside = |path: &str| BESIDE.iter().any(|ending| path.ends_with(ending));
    // The layers that a sentence transformer has after the model: `1_Pooling`, `2_Dense`.
    let module = |path: &str| {
        let folder = path.split_once('/').filter(|(_, file)| is_root(file)).map(|(folder, _)| folder);
        let number = folder.and_then(|folder| folder.split_once('_')).map(|(number, _)| number);
        paths.contains(&"modules.json")
            && number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
            && (path.ends_with(".json") || path.ends_with(".safetensors"))
    };
    let wanted = |path: &&&str| if is_root(path) { weights(path) || beside(path) } else { module(path) };
    let picked: Vec<&str> = paths.iter().filter(wanted).copied().collect();
    if !["tokenizer.json", "tokenizer.model", "tekken.json"].iter().any(|name| picked.contains(name)) {
        return Err(PullError::Hub("it has no tokenizer".into()));
    }
    Ok(picked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gguf_by_quantisation() {
        let paths = [
            "README.md",
            "config.json",
            "imatrix_unsloth.gguf",
            "mmproj-BF16.gguf",
            "mmproj-F16.gguf",
            "x-Q4_K_M.gguf",
            "x-UD-Q4_K_M.gguf",
            "BF16/x-BF16-00001-of-00002.gguf",
            "BF16/x-BF16-00002-of-00002.gguf",
            "x-Q6_K-00001-of-00002.gguf",
        ];
        let of = |quant| pick(&paths, quant);
        assert_eq!(of(Some("q4_k_m")).unwrap(), ["x-Q4_K_M.gguf", "mmproj-F16.gguf"]);
        assert_eq!(of(None).unwrap(), of(Some("q4_k_m")).unwrap());
        assert_eq!(of(Some("UD-Q4_K_M")).unwrap()[0], "x-UD-Q4_K_M.gguf");
        assert_eq!(of(Some("BF16")).unwrap()[..2], paths[7..9]);
        assert!(of(Some("Q6_K")).unwrap_err().to_string().contains("of 2 parts of `x-Q6_K` it has 1"));
        assert!(of(Some("K_M")).is_err());
        assert_eq!(pick(&["m_q8_0.gguf", "m_iq8_0.gguf"], Some("Q8_0")).unwrap(), ["m_q8_0.gguf"]);
        assert!(of(Some("Q2_K")).unwrap_err().to_string().contains("none is Q2_K; there are x-BF16, x-Q4_K_M"));
        assert!(pick(&["a-q2_k.gguf", "a-q3_k.gguf"], None).is_err());
        assert_eq!(pick(&["only.gguf"], None).unwrap(), ["only.gguf"]);
    }

    #[test]
    fn safetensors_and_what_is_beside_them() {
        let whole = [
            "README.md",
            "config.json",
            "tokenizer.json",
            "merges.txt",
            "model.safetensors",
            "onnx/config.json",
            "consolidated.safetensors",
            "pytorch_model.bin",
            "modules.json",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
        ];
        assert_eq!(
            pick(&whole, None).unwrap(),
            [
                "config.json",
                "tokenizer.json",
                "merges.txt",
                "model.safetensors",
                "modules.json",
                "1_Pooling/config.json",
                "2_Dense/model.safetensors",
            ]
        );
        let split = [
            "config.json",
            "tokenizer.model",
            INDEX,
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "consolidated.safetensors",
        ];
        assert_eq!(pick(&split, None).unwrap(), split[..5]);
        let whole = ["config.json", "tokenizer.json", INDEX, "model.safetensors"];
        assert_eq!(pick(&whole, None).unwrap(), whole, "an index may tell of one file");
        for (bad, why) in [
            (&["config.json", "tokenizer.json", INDEX, "model-00001-of-00002.safetensors"][..], "of 2 parts"),
            (&["config.json", "pytorch_model.bin"][..], "neither GGUF"),
            (&["config.json", "model.safetensors"], "no tokenizer"),
            (&["model.safetensors", "tokenizer.json"], "neither GGUF"),
        ] {
            assert!(pick(bad, None).unwrap_err().to_string().contains(why), "{bad:?}");
        }
        assert!(pick(&whole, Some("Q4_0")).is_err());
    }

    #[test]
    fn parts() {
        assert_eq!(shard("a-b-00002-of-00010"), Some(("a-b", 2, 10)));
        for bad in ["a", "a-1-of-2", "-00001-of-00001", "a-00003-of-00002", "a-00000-of-00002", "a-00001-of-99999"] {
            assert_eq!(shard(bad), None, "{bad}");
        }
    }
}
