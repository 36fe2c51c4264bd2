//! The processor the program was built for, held against the one it runs on: a missing unit is named, where the first
//! instruction of it would end the program without a word.
//!
//! The standard library's `is_x86_feature_detected!` cannot say it, since it takes what the build has for given, and `main`
//! is too late, since C++ constructors run before it. So [`check`] asks the processor itself, and the program has it
//! called before every constructor (see `main.rs`). It is compiled for the build's processor as all else is: it only reads
//! numbers, holds them against a table and writes with plain system calls, which gives the compiler nothing to use a
//! vector unit for. `script/test` runs the program under an emulator of older processors.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// Which of the processor's answers has a unit's bit: leaf and register of `cpuid`.
#[derive(Clone, Copy)]
enum Answer {
    /// Leaf 1, ECX.
    First,
    /// Leaf 7, EBX.
    SevenB,
    /// Leaf 7, ECX.
    SevenC,
    /// Leaf 7, sub-leaf 1, EAX.
    SevenOne,
    /// Leaf 8000_0001h, ECX.
    Extended,
}

/// What the operating system must keep over a switch of tasks for a unit to be usable: bits of `XCR0`.
const PLAIN: u64 = 0;
const YMM: u64 = 0b110;
const ZMM: u64 = 0b1110_0110;

struct Unit {
    name: &'static str,
    used: bool,
    answer: Answer,
    bit: u32,
    state: u64,
}

macro_rules! units {
    ($($name:tt $answer:ident $bit:literal $state:ident)+) => {
        [$(Unit { name: $name, used: cfg!(target_feature = $name), answer: Answer::$answer, bit: $bit, state: $state }),+]
    };
}

/// The units that a compiler uses unasked, with their places in Intel's and AMD's manuals.
static UNITS: [Unit; 26] = units! {
    "sse3" First 0 PLAIN
    "pclmulqdq" First 1 PLAIN
    "ssse3" First 9 PLAIN
    "fma" First 12 YMM
    "sse4.1" First 19 PLAIN
    "sse4.2" First 20 PLAIN
    "movbe" First 22 PLAIN
    "popcnt" First 23 PLAIN
    "aes" First 25 PLAIN
    "avx" First 28 YMM
    "f16c" First 29 YMM
    "bmi1" SevenB 3 PLAIN
    "avx2" SevenB 5 YMM
    "bmi2" SevenB 8 PLAIN
    "avx512f" SevenB 16 ZMM
    "avx512dq" SevenB 17 ZMM
    "avx512cd" SevenB 28 ZMM
    "sha" SevenB 29 PLAIN
    "avx512bw" SevenB 30 ZMM
    "avx512vl" SevenB 31 ZMM
    "avx512vbmi" SevenC 1 ZMM
    "vaes" SevenC 9 YMM
    "avx512vnni" SevenC 11 ZMM
    "avxvnni" SevenOne 4 YMM
    "avx512bf16" SevenOne 5 ZMM
    "lzcnt" Extended 5 PLAIN
};

/// What a processor says of itself.
struct Processor {
    first: u32,
    seven_b: u32,
    seven_c: u32,
    seven_one: u32,
    extended: u32,
    /// `XCR0`, or nothing where the operating system keeps no wide registers.
    state: u64,
}

impl Processor {
    fn of_this_machine() -> Self {
        const XSAVE_IN_USE: u32 = 1 << 27;
        let highest = __cpuid(0).eax;
        let first = __cpuid(1).ecx;
        let (mut seven_b, mut seven_c, mut seven_one) = (0, 0, 0);
        if highest >= 7 {
            let seven = __cpuid_count(7, 0);
            (seven_b, seven_c) = (seven.ebx, seven.ecx);
            if seven.eax >= 1 {
                seven_one = __cpuid_count(7, 1).eax;
            }
        }
        let extended = if __cpuid(0x8000_0000).eax > 0x8000_0000 { __cpuid(0x8000_0001).ecx } else { 0 };
        // SAFETY: the instruction is there when the operating system says that it uses it.
        let state = if first & XSAVE_IN_USE != 0 { unsafe { _xgetbv(0) } } else { 0 };
        Self { first, seven_b, seven_c, seven_one, extended, state }
    }

    fn has(&self, unit: &Unit) -> bool {
        let answer = match unit.answer {
            Answer::First => self.first,
            Answer::SevenB => self.seven_b,
            Answer::SevenC => self.seven_c,
            Answer::SevenOne => self.seven_one,
            Answer::Extended => self.extended,
        };
        answer >> unit.bit & 1 == 1 && self.state & unit.state == unit.state
    }
}

/// Ends the program with a sentence when this build uses a unit that this machine lacks.
pub extern "C" fn check() {
    let processor = Processor::of_this_machine();
    let mut missing = false;
    for unit in &UNITS {
        if unit.used && !processor.has(unit) {
            say(if missing { ", " } else { "Error: this hanzod was built for a processor with " });
            say(unit.name);
            missing = true;
        }
    }
    if missing {
        say(", which this machine's lacks: build it on this machine, or take a build for an older one\n");
        std::process::exit(1);
    }
}

/// Writes to standard error by a system call and nothing else: nothing of the program is set up yet.
fn say(text: &str) {
    // Nobody need be left to read it.
    rustix::io::write(rustix::stdio::stderr(), text.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> &'static Unit {
        UNITS.iter().find(|unit| unit.name == name).unwrap()
    }

    #[test]
    fn a_build_runs_where_it_was_built() {
        let here = Processor::of_this_machine();
        let lacking: Vec<_> = UNITS.iter().filter(|unit| unit.used && !here.has(unit)).map(|unit| unit.name).collect();
        assert_eq!(lacking, [""; 0]);
    }

    /// The places of the bits, against what the standard library finds (where it may look, and not only assume).
    #[test]
    fn finds_what_the_standard_library_finds() {
        let here = Processor::of_this_machine();
        macro_rules! compare {
            ($($name:tt)+) => { $(assert_eq!(here.has(named($name)), is_x86_feature_detected!($name), $name);)+ };
        }
        compare!("sse3" "pclmulqdq" "ssse3" "fma" "sse4.1" "sse4.2" "movbe" "popcnt" "aes" "avx" "f16c" "bmi1" "avx2" "bmi2"
            "avx512f" "avx512dq" "avx512cd" "sha" "avx512bw" "avx512vl" "avx512vbmi" "vaes" "avx512vnni" "avxvnni"
            "avx512bf16" "lzcnt");
    }

    #[test]
    fn a_unit_needs_its_bit_and_the_registers_that_the_system_keeps() {
        let all = |state| Processor {
            first: u32::MAX,
            seven_b: u32::MAX,
            seven_c: u32::MAX,
            seven_one: u32::MAX,
            extended: u32::MAX,
            state,
        };
        assert!(all(ZMM).has(named("avx512f")));
        assert!(!all(YMM).has(named("avx512f")), "no room for its registers");
        assert!(all(YMM).has(named("avx2")) && !all(0).has(named("avx2")));
        assert!(all(0).has(named("sse4.2")));
        assert!(!Processor { seven_b: !(1 << 5), ..all(ZMM) }.has(named("avx2")));
    }
}
