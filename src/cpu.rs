//! The processor the program was built for, held against the one it runs on: a missing unit is named, where the first
//! instruction of it would end the program without a word.

/// The names of features that this build uses and this machine lacks.
#[cfg(target_arch = "x86_64")]
pub fn missing() -> Vec<&'static str> {
    macro_rules! lacking {
        ($($feature:tt)+) => {
            [$((cfg!(target_feature = $feature) && !std::arch::is_x86_feature_detected!($feature)).then_some($feature)),+]
        };
    }
    let lacking = lacking![
        "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "f16c" "fma" "avx2" "bmi1" "bmi2" "lzcnt" "movbe" "avx512f"
        "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16" "avx512vbmi" "avxvnni"
    ];
    lacking.into_iter().flatten().collect()
}

/// On other processors the kernel's own word has to do.
#[cfg(not(target_arch = "x86_64"))]
pub fn missing() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_build_runs_where_it_was_built() {
        assert_eq!(super::missing(), [""; 0]);
    }
}
