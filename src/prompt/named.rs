//! The chat formats that Ollama knows by name, from before models brought templates along: how a turn is written, and what
//! ends one.
//!
//! Templates are in the old manner, executed once for each turn. A format that was written in more than one way stands here
//! once for each.

/// A format with a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub name: &'static str,
    /// A Go template.
    pub template: &'static str,
    /// Stop strings.
    pub stop: &'static [&'static str],
    /// Whether models of this format were taught system messages, where another format differs in nothing else.
    pub(super) system: Option<bool>,
}

const fn named(name: &'static str, stop: &'static [&'static str], template: &'static str) -> Named {
    Named { name, template, stop, system: None }
}

const GEMMA: &str = "{{ if or .System .Prompt }}<start_of_turn>user\n{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}\
                     <end_of_turn>\n{{ end }}<start_of_turn>model\n{{ .Response }}<end_of_turn>\n";
const FALCON: &[&str] = &["User:", "Assistant:"];
const MISTRAL: &[&str] = &["[INST]", "[/INST]"];
const PHI: &[&str] = &["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"];
const SOLAR: &[&str] = &["### System:", "### User:", "### Assistant"];
const VICUNA: &[&str] = &[];

/// The names and their stop strings are Ollama's; the first that fits counts.
pub static NAMED: [Named; 25] = [
    named(
        "alfred",
        &["<start_system>", "<end_message>", "<start_user>", "<start_assistant>"],
        "{{ if .System }}<start_system>{{ .System }}<end_message>{{ end }}{{ if .Prompt }}<start_user>{{ .Prompt }}\
         <end_message>{{ end }}<start_assistant>{{ .Response }}<end_message>",
    ),
    named(
        "alpaca",
        &["### Instruction:", "### Response"],
        "{{ if .System }}{{ .System }}\n\n{{ end }}{{ if .Prompt }}### Instruction:\n{{ .Prompt }}\n\n{{ end }}\
         ### Response:\n{{ .Response }}\n\n",
    ),
    named(
        "chatml",
        &["<|im_start|>", "<|im_end|>"],
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Prompt }}<|im_start|>user\n\
         {{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ .Response }}<|im_end|>\n",
    ),
    named(
        "chatqa",
        &["System:", "User:", "Assistant:", "<|begin_of_text|>"],
        "{{ if .System }}System: {{ .System }}\n\n{{ end }}{{ if .Prompt }}User: {{ .Prompt }}\n\n{{ end }}\
         Assistant:{{ if .Response }} {{ .Response }}\n\n{{ end }}",
    ),
    named(
        "codellama-70b-instruct",
        &["Source:", "Destination:", "<step>"],
        "{{ if .System }}Source: system\n\n {{ .System }} <step> {{ end }}{{ if .Prompt }}Source: user\n\n {{ .Prompt }} \
         <step> {{ end }}{{ if not .Response }}Source: assistant\nDestination: user\n\n {{ else }}Source: assistant\n\n \
         {{ .Response }} <step> {{ end }}",
    ),
    named(
        "command-r",
        &["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"],
        "{{ if .System }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{ .System }}<|END_OF_TURN_TOKEN|>{{ end }}{{ if .Prompt }}\
         <|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ .Prompt }}<|END_OF_TURN_TOKEN|>{{ end }}\
         <|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{ .Response }}<|END_OF_TURN_TOKEN|>",
    ),
    named(
        "falcon-instruct",
        FALCON,
        "{{ if .System }}{{ .System }}\n\n{{ end }}{{ if .Prompt }}User: {{ .Prompt }}\n\n{{ end }}\
         Assistant:{{ if .Response }} {{ .Response }}\n\n{{ end }}",
    ),
    named(
        "falcon-instruct",
        FALCON,
        "{{ if .System }}{{ .System }}\n{{ end }}{{ if .Prompt }}User: {{ .Prompt }}\n{{ end }}\
         Assistant:{{ if .Response }} {{ .Response }}\n{{ end }}",
    ),
    Named { system: Some(false), ..named("gemma-instruct", &["<start_of_turn>", "<end_of_turn>"], GEMMA) },
    Named { system: Some(true), ..named("gemma3-instruct", &["<end_of_turn>"], GEMMA) },
    named(
        "granite-instruct",
        &["System:", "Question:", "Answer:"],
        "{{ if .System }}System:\n{{ .System }}\n\n{{ end }}{{ if .Prompt }}Question:\n{{ .Prompt }}\n\n{{ end }}\
         Answer:\n{{ .Response }}\n\n",
    ),
    named(
        "llama2-chat",
        &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
        "{{ if or .System .Prompt }}[INST] {{ if .System }}<<SYS>>\n{{ .System }}\n<</SYS>>\n\n{{ end }}{{ .Prompt }} \
         [/INST]{{ end }}{{ if .Response }} {{ .Response }} </s><s>{{ end }}",
    ),
    named(
        "llama3-instruct",
        &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}{{ if .Prompt }}\
         <|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>{{ end }}\
         <|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>",
    ),
    named(
        "magicoder",
        &["@@ Instruction", "@@ Response"],
        "{{ if .System }}{{ .System }}\n\n{{ end }}{{ if .Prompt }}@@ Instruction\n{{ .Prompt }}\n\n{{ end }}\
         @@ Response\n{{ .Response }}\n\n",
    ),
    named(
        "mistral-instruct",
        MISTRAL,
        "{{ if or .System .Prompt }}[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }} [/INST]{{ end }}\
         {{ if .Response }} {{ .Response }}</s>{{ end }}",
    ),
    named(
        "mistral-instruct",
        MISTRAL,
        "{{ if or .System .Prompt }}[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }} [/INST]{{ end }}\
         {{ if .Response }}{{ .Response }}</s> {{ end }}",
    ),
    named(
        "openchat",
        &["<|end_of_turn|>"],
        "{{ if .System }}GPT4 Correct System: {{ .System }}<|end_of_turn|>{{ end }}{{ if .Prompt }}GPT4 Correct User: \
         {{ .Prompt }}<|end_of_turn|>{{ end }}GPT4 Correct Assistant:{{ if .Response }} {{ .Response }}<|end_of_turn|>{{ end }}",
    ),
    named(
        "phi-3",
        PHI,
        "{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}{{ if .Prompt }}<|user|>\n{{ .Prompt }}<|end|>\n{{ end }}\
         <|assistant|>\n{{ .Response }}<|end|>\n",
    ),
    named(
        "phi-3",
        PHI,
        "{{ if or .System .Prompt }}<|user|>\n{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}<|end|>\n{{ end }}\
         <|assistant|>\n{{ .Response }}<|end|>\n",
    ),
    named(
        "solar-instruct",
        SOLAR,
        "{{ if .System }}### System:\n{{ .System }}\n\n{{ end }}{{ if .Prompt }}### User:\n{{ .Prompt }}\n\n{{ end }}\
         ### Assistant:\n{{ .Response }}\n\n",
    ),
    named(
        "solar-instruct",
        SOLAR,
        "{{ if .System }}### System:\n{{ .System }}\n\n{{ end }}{{ if .Prompt }}### User:\n{{ .Prompt }}\n\n{{ end }}\
         ### Assistant:\n{{ .Response }}",
    ),
    named(
        "starcoder2-instruct",
        &["### Instruction", "### Response", "<|endoftext|>"],
        "{{ if .System }}{{ .System }}\n\n{{ end }}{{ if .Prompt }}### Instruction\n{{ .Prompt }}\n\n{{ end }}\
         ### Response\n{{ .Response }}<|endoftext|>\n\n",
    ),
    named(
        "vicuna",
        VICUNA,
        "{{ if .System }}{{ .System }}\n\n{{ end }}{{ if .Prompt }}USER: {{ .Prompt }}\n{{ end }}\
         ASSISTANT:{{ if .Response }} {{ .Response }}</s>\n{{ end }}",
    ),
    named(
        "vicuna",
        VICUNA,
        "{{ if .System }}{{ .System }} {{ end }}{{ if .Prompt }}USER: {{ .Prompt }} {{ end }}\
         ASSISTANT:{{ if .Response }} {{ .Response }}</s>{{ end }}",
    ),
    named(
        "zephyr",
        &["<|system|>", "</s>", "<|user|>", "<|assistant|>"],
        "{{ if .System }}<|system|>\n{{ .System }}</s>\n{{ end }}{{ if .Prompt }}<|user|>\n{{ .Prompt }}</s>\n{{ end }}\
         <|assistant|>\n{{ .Response }}</s>\n",
    ),
];
