//! Counterparts: the repositories of `mlx-community` that have a model's weights in MLX's form, in so many bits.

use super::PullError;

pub(super) const OWNER: &str = "mlx-community";

/// The widths that are looked for, in this order where nobody says which.
const WIDTHS: [&str; 4] = ["4bit", "6bit", "8bit", "bf16"];

/// A width at the end of `text`, behind `mark`, and what is before it.
pub(super) fn split_width(text: &str, mark: char) -> Option<(&str, &'static str)> {
    let (before, last) = text.rsplit_once(mark)?;
    WIDTHS.iter().find(|width| width.eq_ignore_ascii_case(last)).map(|width| (before, *width))
}

/// Whether a repository's name says that its weights have MLX's form already.
pub(super) fn is_converted(repository: &str) -> bool {
    repository.split(['-', '_']).any(|word| {
        let word = word.to_ascii_lowercase();
        let bits = word.strip_suffix("bit").is_some_and(|bits| bits.parse::<u8>().is_ok());
        bits || matches!(word.as_str(), "mlx" | "bf16" | "fp16" | "mxfp4" | "mxfp8" | "nvfp4")
    })
}

/// Of the owner's repositories, the one that has `base` in the width that is asked for.
pub(super) fn choose(repositories: &[String], base: &str, width: Option<&str>) -> Result<String, PullError> {
    let named = |name: String| repositories.iter().find(|repository| repository.eq_ignore_ascii_case(&name)).cloned();
    let of_width = |width: &str| {
        let ways = [format!("-{width}"), format!("-MLX-{width}"), format!("-{width}-DWQ"), format!("-{width}-AWQ")];
        ways.into_iter().find_map(|ending| named(format!("{base}{ending}")))
    };
    let found = match width {
        Some(width) => of_width(width),
        None => WIDTHS.iter().find_map(|width| of_width(width)).or_else(|| named(base.to_owned())),
    };
    found.ok_or_else(|| {
        let like =
            |repository: &&String| repository.get(..base.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(base));
        let mut there: Vec<&str> = repositories.iter().filter(like).map(String::as_str).collect();
        there.sort_unstable();
        there.truncate(40);
        let width = width.map(|width| format!(" in {width}")).unwrap_or_default();
        match there.is_empty() {
            true => PullError::Hub(format!("{OWNER} has no counterpart of it{width}")),
            false => PullError::Hub(format!("{OWNER} has none of it{width}; there are {}", there.join(", "))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_unless_it_is_said() {
        let there: Vec<String> = ["Qwen3-4B-8bit", "Qwen3-4B-Instruct-2507-4bit", "Qwen3-4B-4bit-DWQ", "Qwen3-4B-bf16"]
            .map(str::to_owned)
            .into();
        let of = |base, width| choose(&there, base, width).map_err(|error| error.to_string());
        assert_eq!(of("qwen3-4b", None).unwrap(), "Qwen3-4B-4bit-DWQ");
        assert_eq!(of("Qwen3-4B", Some("8bit")).unwrap(), "Qwen3-4B-8bit");
        assert_eq!(of("Qwen3-4B", Some("bf16")).unwrap(), "Qwen3-4B-bf16");
        assert_eq!(of("Qwen3-4B-Instruct-2507", None).unwrap(), "Qwen3-4B-Instruct-2507-4bit");
        let error = of("Qwen3-4B-Instruct-2507", Some("6bit")).unwrap_err();
        assert_eq!(error, "mlx-community has none of it in 6bit; there are Qwen3-4B-Instruct-2507-4bit");
        assert_eq!(of("Gemma", None).unwrap_err(), "mlx-community has no counterpart of it");
    }

    #[test]
    fn names_that_say_it() {
        for converted in ["Qwen3-0.6B-4bit", "x-8bit-DWQ", "X-MLX-Q4", "x-bf16"] {
            assert!(is_converted(converted), "{converted}");
        }
        for not in ["Qwen3-0.6B", "x-habit", "bit", "x-GGUF"] {
            assert!(!is_converted(not), "{not}");
        }
        assert_eq!(split_width("qwen3:0.6b:8BIT", ':'), Some(("qwen3:0.6b", "8bit")));
        assert_eq!(split_width("qwen3-4b", '-'), None);
    }
}
