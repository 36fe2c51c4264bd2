//! Which files of a repository make the model that was asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::PullError;
use crate::types::file_name::{Part, gguf_stem, model_stem};

/// Tried in this order when nobody says which: the hub's own choice first, then the sizes next to it.
const USUAL: [&str; 24] = [
    "q4_k_m", "q4_0", "q8_0", "q4_k_xl", "q4_k_s", "q5_k_m", "iq4_xs", "iq4_nl", "mxfp4", "q5_k_s", "q5_0", "q6_k",
    "q4_1", "q5_1", "q3_k_l", "q3_k_m", "q3_k_s", "iq3_m", "iq3_xs", "q2_k", "iq2_m", "f16", "bf16", "f32",
];
/// What stands beside safetensors.
const BESIDE: [&str; 4] = [".json", ".jinja", ".model", ".txt"];
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
    let has_gguf = paths.iter().any(|path| gguf_stem(path).is_some());
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
    let part = |path: &'a str| Part::parse(gguf_stem(path)?);
    let Some(named) = paths.iter().copied().find(|there| *there == path) else {
        return Err(PullError::Hub(format!("it has no file `{path}`")));
    };
    let Some(of) = part(named) else { return Ok(vec![named]) };
    let is_part = |path: &&'a str| part(path).is_some_and(|part| (part.model, part.count) == (of.model, of.count));
    let mut parts: Vec<&str> = paths.iter().copied().filter(is_part).collect();
    parts.sort_unstable();
    let numbers: Vec<_> = parts.iter().filter_map(|path| part(path)).collect();
    whole(of.model, ".gguf", &numbers)?;
    Ok(parts)
}

fn is_root(path: &str) -> bool {
    !path.contains('/')
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn gguf<'a>(paths: &[&'a str], quant: Option<&str>) -> Result<Vec<&'a str>, PullError> {
    // Each with its name without the ending.
    let of_kind = |projectors: bool| {
        let files = paths.iter().copied().filter_map(|path| Some((path, gguf_stem(path)?)));
        files.filter(move |(path, _)| file_name(path).to_ascii_lowercase().contains("mmproj") == projectors)
    };
    // By what they are called but for the number of the part: a model each.
    let mut models: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, stem) in of_kind(false).filter(|(path, _)| !file_name(path).to_ascii_lowercase().contains("imatrix")) {
        models.entry(model_stem(stem)).or_default().push(path);
    }
    let of_quant = |quant: &str| models.keys().copied().filter(|stem| is_of(stem, quant)).min_by_key(|stem| stem.len());
    // A file may be named in full as well.
    let of_file = |name: &str| {
        let parts =
            models.iter().find(|(_, parts)| parts.iter().any(|path| file_name(path).eq_ignore_ascii_case(name)));
        parts.map(|(stem, _)| *stem)
    };
    let found = match quant {
        Some(name) if gguf_stem(name).is_some() => of_file(name),
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
    let parts: Vec<_> = picked.iter().filter_map(|path| Part::parse(gguf_stem(path)?)).collect();
    whole(stem, ".gguf", &parts)?;
    let projectors: Vec<_> = of_kind(true).collect();
    let preferred = |kind: &str| projectors.iter().find(|(_, stem)| is_of(stem, kind));
    let projector = preferred("f16").or_else(|| preferred("bf16")).or_else(|| projectors.first());
    picked.extend(projector.map(|(path, _)| *path));
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
fn whole(model: &str, ending: &str, parts: &[Part<'_>]) -> Result<(), PullError> {
    let Some(first) = parts.first() else { return Ok(()) };
    let (there, count) = (parts.len(), first.count);
    match first.all().find(|part| !parts.contains(part)) {
        None if there as u64 == u64::from(count) => Ok(()),
        None => Err(PullError::Hub(format!("it has {there} parts of `{model}`, and should have {count}"))),
        Some(missing) => {
            Err(PullError::Hub(format!("of {count} parts of `{model}` it has {there}: `{missing}{ending}` is missing")))
        }
    }
}

/// The weights, in parts where an index tells of parts, and what tells of them.
fn safetensors<'a>(paths: &[&'a str], indexed: Option<&BTreeSet<String>>) -> Result<Vec<&'a str>, PullError> {
    let part = |path: &'a str| Part::parse(path.strip_suffix(".safetensors")?).filter(|part| part.model == "model");
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
}
