//! Which files of a repository make the model that was asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::PullError;
use super::direct::is_gguf;

/// Tried in this order when nobody says which: the hub's own choice first, then the sizes next to it.
const USUAL: [&str; 24] = [
    "q4_k_m", "q4_0", "q8_0", "q4_k_xl", "q4_k_s", "q5_k_m", "iq4_xs", "iq4_nl", "mxfp4", "q5_k_s", "q5_0", "q6_k",
    "q4_1", "q5_1", "q3_k_l", "q3_k_m", "q3_k_s", "iq3_m", "iq3_xs", "q2_k", "iq2_m", "f16", "bf16", "f32",
];
/// What stands beside safetensors.
const BESIDE: [&str; 4] = [".json", ".jinja", ".model", ".txt"];
/// Of a split model nobody has more parts than this.
const MOST_PARTS: u32 = 999;
/// Says which weights are in which file.
pub(super) const INDEX: &str = "model.safetensors.index.json";
const WHOLE: &str = "model.safetensors";

/// The paths, of all these, of the files that are wanted. `indexed` is what the index names, once that was read.
pub(super) fn pick<'a>(
    paths: &[&'a str],
    quant: Option<&str>,
    indexed: Option<&BTreeSet<String>>,
) -> Result<Vec<&'a str>, PullError> {
    let has_safetensors = paths.iter().any(|path| is_root(path) && path.ends_with(".safetensors"));
    let has_gguf = paths.iter().any(|path| is_gguf(path));
    match (has_safetensors && paths.contains(&"config.json"), has_gguf, quant) {
        (_, true, Some(_)) | (false, true, None) => gguf(paths, quant),
        (true, _, None) => safetensors(paths, indexed),
        (_, false, Some(quant)) => Err(PullError::Hub(format!("it has no GGUF files, so none of {quant}"))),
        (false, false, None) => {
            Err(PullError::Hub("it has neither GGUF files nor safetensors with a config.json".into()))
        }
    }
}

/// The file at `path`, and the other parts of the same model where it is one.
pub(super) fn with_parts<'a>(paths: &[&'a str], path: &str) -> Result<Vec<&'a str>, PullError> {
    let stem = |path: &'a str| if is_gguf(path) { &path[..path.len() - ".gguf".len()] } else { path };
    let Some(named) = paths.iter().copied().find(|there| *there == path) else {
        return Err(PullError::Hub(format!("it has no file `{path}`")));
    };
    let Some((of, _, count)) = shard(stem(named)) else { return Ok(vec![named]) };
    let is_part = |path: &str| shard(path).is_some_and(|(stem, _, all)| stem == of && all == count);
    let mut parts: Vec<&str> = paths.iter().copied().filter(|path| is_gguf(path) && is_part(stem(path))).collect();
    parts.sort_unstable();
    let numbers: Vec<_> = parts.iter().filter_map(|path| shard(stem(path))).collect();
    whole(of, ".gguf", &numbers)?;
    Ok(parts)
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
    // A file may be named in full as well.
    let of_file = |name: &str| {
        let parts =
            models.iter().find(|(_, parts)| parts.iter().any(|path| file_name(path).eq_ignore_ascii_case(name)));
        parts.map(|(stem, _)| *stem)
    };
    let found = match quant {
        Some(name) if is_gguf(name) => of_file(name),
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
    let parts: Vec<_> = picked.iter().filter_map(|path| shard(&path[..path.len() - ".gguf".len()])).collect();
    whole(stem, ".gguf", &parts)?;
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

/// Whether every part is there, each once.
fn whole(stem: &str, ending: &str, parts: &[(&str, u32, u32)]) -> Result<(), PullError> {
    let Some((.., count)) = parts.first() else { return Ok(()) };
    let missing = (1..=*count).find(|number| !parts.iter().any(|(_, part, of)| part == number && of == count));
    match missing {
        None if parts.len() as u64 == u64::from(*count) => Ok(()),
        None => Err(PullError::Hub(format!("it has {} parts of `{stem}`, and should have {count}", parts.len()))),
        Some(number) => Err(PullError::Hub(format!(
            "of {count} parts of `{stem}` it has {}: `{stem}-{number:05}-of-{count:05}{ending}` is missing",
            parts.len()
        ))),
    }
}

/// The weights, in parts where an index tells of parts, and what tells of them.
fn safetensors<'a>(paths: &[&'a str], indexed: Option<&BTreeSet<String>>) -> Result<Vec<&'a str>, PullError> {
    let part = |path: &'a str| shard(path.strip_suffix(".safetensors")?).filter(|(stem, ..)| *stem == "model");
    let missing = indexed.and_then(|indexed| indexed.iter().find(|name| !paths.contains(&name.as_str())));
    // An index of parts that are not there any more may lie beside the whole.
    let stale = missing.is_some() && paths.contains(&WHOLE);
    if let Some(missing) = missing.filter(|_| !stale) {
        return Err(PullError::Hub(format!("`{missing}` is named in `{INDEX}`, and it has no such file")));
    }
    let parts: Vec<_> = paths.iter().filter_map(|path| part(path)).collect();
    let is_split = !stale && !parts.is_empty() && (paths.contains(&INDEX) || !paths.contains(&WHOLE));
    if is_split && indexed.is_none() {
        whole("model", ".safetensors", &parts)?;
    }
    let weights = |path: &'a str| match indexed.filter(|_| !stale) {
        Some(indexed) => indexed.contains(path),
        None if is_split => part(path).is_some(),
        None if paths.contains(&WHOLE) => path == WHOLE,
        None => path.ends_with(".safetensors"),
    };
    let beside = |path: &str| BESIDE.iter().any(|ending| path.ends_with(ending)) && !(stale && path == INDEX);
    // The layers that a sentence transformer has after the model: `1_Pooling`, `2_Dense`.
    let module = |path: &str| {
        let folder = path.split_once('/').filter(|(_, file)| is_root(file)).map(|(folder, _)| folder);
        let number = folder.and_then(|folder| folder.split_once('_')).map(|(number, _)| number);
        paths.contains(&"modules.json")
            && number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
            && (path.ends_with(".json") || path.ends_with(".safetensors"))
    };
    let wanted = |path: &&'a str| match is_root(path) {
        true => weights(path) || beside(path),
        // An index may name files of a folder.
        false => module(path) || indexed.is_some_and(|indexed| !stale && indexed.contains(*path)),
    };
    let picked: Vec<&str> = paths.iter().copied().filter(wanted).collect();
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
        let of = |quant| pick(&paths, quant, None);
        assert_eq!(of(Some("q4_k_m")).unwrap(), ["x-Q4_K_M.gguf", "mmproj-F16.gguf"]);
        assert_eq!(of(None).unwrap(), of(Some("q4_k_m")).unwrap());
        assert_eq!(of(Some("UD-Q4_K_M")).unwrap()[0], "x-UD-Q4_K_M.gguf");
        assert_eq!(of(Some("BF16")).unwrap()[..2], paths[7..9]);
        let lacks = "of 2 parts of `x-Q6_K` it has 1: `x-Q6_K-00002-of-00002.gguf` is missing";
        assert_eq!(of(Some("Q6_K")).unwrap_err().to_string(), lacks);
        assert!(of(Some("K_M")).is_err());
        assert_eq!(pick(&["m_q8_0.gguf", "m_iq8_0.gguf"], Some("Q8_0"), None).unwrap(), ["m_q8_0.gguf"]);
        assert!(of(Some("Q2_K")).unwrap_err().to_string().contains("none is Q2_K; there are x-BF16, x-Q4_K_M"));
        assert_eq!(of(Some("x-ud-q4_k_m.GGUF")).unwrap()[0], "x-UD-Q4_K_M.gguf", "a file by its name");
        assert_eq!(of(Some("x-BF16-00002-of-00002.gguf")).unwrap()[..2], paths[7..9]);
        assert_eq!(pick(&["a-q2_k.gguf", "a-q3_k_m.gguf"], None, None).unwrap(), ["a-q3_k_m.gguf"]);
        assert!(pick(&["a-one.gguf", "a-two.gguf"], None, None).is_err());
        assert_eq!(pick(&["only.gguf"], None, None).unwrap(), ["only.gguf"]);
        assert_eq!(with_parts(&paths, paths[8]).unwrap(), paths[7..9]);
        assert_eq!(with_parts(&paths, "x-Q4_K_M.gguf").unwrap(), ["x-Q4_K_M.gguf"]);
        assert!(with_parts(&paths, paths[9]).unwrap_err().to_string().ends_with("is missing"));
        assert!(with_parts(&paths, "y.gguf").is_err());
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
            pick(&whole, None, None).unwrap(),
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
        assert_eq!(pick(&split, None, None).unwrap(), split[..5]);
        let whole = ["config.json", "tokenizer.json", INDEX, "model.safetensors"];
        assert_eq!(pick(&whole, None, None).unwrap(), whole, "an index may tell of one file");
        for (bad, why) in [
            (&["config.json", "tokenizer.json", INDEX, "model-00001-of-00002.safetensors"][..], "of 2 parts"),
            (&["config.json", "pytorch_model.bin"][..], "neither GGUF"),
            (&["config.json", "model.safetensors"], "no tokenizer"),
            (&["model.safetensors", "tokenizer.json"], "neither GGUF"),
        ] {
            assert!(pick(bad, None, None).unwrap_err().to_string().contains(why), "{bad:?}");
        }
        assert!(pick(&whole, Some("Q4_0"), None).is_err());
    }

    #[test]
    fn what_an_index_names() {
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let paths = ["config.json", "tokenizer.json", INDEX, "one.safetensors", "two.safetensors", "x.safetensors"];
        let of = |names: &[&str]| pick(&paths, None, Some(&named(names)));
        assert_eq!(of(&["one.safetensors", "two.safetensors"]).unwrap(), paths[..5]);
        let error = of(&["one.safetensors", "../etc/passwd"]).unwrap_err().to_string();
        assert_eq!(error, format!("`../etc/passwd` is named in `{INDEX}`, and it has no such file"));
        // Beside the whole, an index of what is gone says nothing.
        let paths = ["config.json", "tokenizer.json", INDEX, WHOLE];
        let stale = pick(&paths, None, Some(&named(&["model-00001-of-00001.safetensors"]))).unwrap();
        assert_eq!(stale, ["config.json", "tokenizer.json", WHOLE]);
    }

    #[test]
    fn parts() {
        assert_eq!(shard("a-b-00002-of-00010"), Some(("a-b", 2, 10)));
        for bad in ["a", "a-1-of-2", "-00001-of-00001", "a-00003-of-00002", "a-00000-of-00002", "a-00001-of-99999"] {
            assert_eq!(shard(bad), None, "{bad}");
        }
    }
}
