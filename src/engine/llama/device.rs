//! What the model runs on: its name for people, and the number of threads that suit it.

use std::ffi::CStr;

use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};

/// Vector instructions that matter to speed.
const TELLING: [&str; 8] = ["AVX2", "AVX512", "AVX_VNNI", "AMX", "NEON", "SVE", "DOTPROD", "MATMUL_INT8"];

/// Whether there is anything to compute on but the processor.
pub fn accelerated() -> bool {
    list_llama_ggml_backend_devices().iter().any(is_accelerator)
}

fn is_accelerator(device: &LlamaBackendDevice) -> bool {
    matches!(device.device_type, LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu)
}

/// `CUDA0 NVIDIA H100`, or `CPU (AVX2, AVX512)` when nothing of the model is on an accelerator.
pub fn words(accelerated: bool) -> String {
    let devices = list_llama_ggml_backend_devices();
    let names: Vec<String> = devices
        .iter()
        .filter(|device| accelerated && is_accelerator(device))
        .map(|device| format!("{} {}", device.name, device.description))
        .collect();
    if names.is_empty() { cpu(&system_info()) } else { names.join(", ") }
}

fn system_info() -> String {
    // SAFETY: llama.cpp gives a static text that changes only by this call, which is made once, by one thread.
    let text = unsafe { CStr::from_ptr(llama_cpp_sys_2::llama_print_system_info()) };
    text.to_string_lossy().into_owned()
}

/// Reads `CPU : SSE3 = 1 | AVX2 = 1 | … | `.
fn cpu(info: &str) -> String {
    let features = info.rsplit("CPU : ").next().unwrap_or_default().split('|');
    let present = features.filter_map(|feature| feature.trim().strip_suffix(" = 1"));
    let telling: Vec<&str> = present.filter(|name| TELLING.iter().any(|telling| name.starts_with(telling))).collect();
    if telling.is_empty() { "CPU".into() } else { format!("CPU ({})", telling.join(", ")) }
}

/// Physical cores that this process may use. A second thread on a core only gets in the first one's way.
pub fn cores() -> i32 {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads_of_a_core().unwrap_or(1).max(1);
    i32::try_from(usable.div_ceil(threads)).unwrap_or(1)
}

/// Hardware threads that share the first core, where the system tells.
fn threads_of_a_core() -> Option<usize> {
    let siblings = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list").ok()?;
    count(siblings.trim())
}

/// Of a list such as `0,64` or `0-1`.
fn count(list: &str) -> Option<usize> {
    list.split(',')
        .map(|part| match part.split_once('-') {
            Some((first, last)) => Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1),
            None => part.parse::<usize>().ok().map(|_| 1),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named_by_its_vectors() {
        assert_eq!(cpu("CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 1 | NEON = 0 | REPACK = 1 | "), "CPU (AVX2, AVX512)");
        assert_eq!(cpu(""), "CPU");
    }

    #[test]
    fn siblings_are_counted() {
        assert_eq!((count("0"), count("0,64"), count("0-3"), count("x")), (Some(1), Some(2), Some(4), None));
    }
}
