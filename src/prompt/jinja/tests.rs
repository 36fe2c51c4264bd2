//! Small templates in the words of the real ones, and what they must give.

use super::*;
use crate::types::ThinkLevel;

const CHATML: &str = "{%- if tools %}T:{% for tool in tools %}{{ tool | tojson }}{% endfor %}\n{% endif %}\
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
<|im_start|>assistant{{ '\\n' + message.content }}
        {%- for call in message.tool_calls %}
<tool_call>{\"name\": \"{{ call.function.name }}\", \"arguments\": {{ call.function.arguments | tojson }}}</tool_call>
        {%- endfor %}<|im_end|>
    {%- else %}
<|im_start|>{{ message.role }}\n{% if message.reasoning_content %}<think>{{ message.reasoning_content.strip('\\n') }}</think>{% endif %}\
{{ message['content'].split('</think>')[-1].lstrip() }}<|im_end|>
    {%- endif %}
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}";

fn render(template: &str, messages: &[Message], think: Option<Think>) -> Result<String, String> {
    let prompt = JinjaPrompt::parse(template, "<s>", "</s>").map_err(|error| error.to_string())?;
    let conversation = Conversation { messages: messages.to_vec(), tools: Vec::new(), think };
    prompt.render(&conversation).map(|rendered| rendered.text).map_err(|error| error.to_string())
}

fn call(arguments: Json) -> Message {
    let mut message = Message::text(Role::ASSISTANT, "");
    let mut call = ToolCall::default();
    call.function.name = "get".to_owned();
    call.function.arguments = arguments.as_object().cloned().unwrap_or_default();
    message.tool_calls.push(call);
    message
}

#[test]
fn renders_as_hugging_face_does() {
    let mut thought = Message::text(Role::ASSISTANT, "b");
    thought.thinking = "why\n".to_owned();
    let messages = [
        Message::text(Role::SYSTEM, "<s&'>"),
        Message::text(Role::USER, "a"),
        thought,
        Message::text(Role::USER, "c"),
        call(json!({"z": "<é>", "a": [1, 1e-7, 2.0, null]})),
        Message::text(Role::TOOL, "r"),
    ];
    assert_eq!(
        render(CHATML, &messages, Some(Think::Off)).unwrap(),
        "<|im_start|>system\n<s&'><|im_end|><|im_start|>user\na<|im_end|><|im_start|>assistant\n<think>why</think>b<|im_end|>\
         <|im_start|>user\nc<|im_end|><|im_start|>assistant\n<tool_call>{\"name\": \"get\", \"arguments\": \
         {\"z\": \"<é>\", \"a\": [1, 1e-07, 2.0, null]}}</tool_call><|im_end|><|im_start|>tool\nr<|im_end|>\
         <|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
}

#[test]
fn json_is_python_s() {
    let show = |filter: &str| {
        let template = format!("{{{{ messages[0].content }}}}{{{{ {{'b': [1, {{}}], 'a': 'é\\\"'}} | {filter} }}}}");
        render(&template, &[Message::text(Role::USER, "")], None).unwrap()
    };
    assert_eq!(show("tojson"), "{\"b\": [1, {}], \"a\": \"é\\\"\"}");
    assert_eq!(show("tojson(separators=(',', ':'))"), "{\"b\":[1,{}],\"a\":\"é\\\"\"}");
    assert_eq!(show("tojson(indent=2)"), "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": \"é\\\"\"\n}");
    assert_eq!(show("tojson(sort_keys=True)"), "{\"a\": \"é\\\"\", \"b\": [1, {}]}");
    assert_eq!(show("tojson(ensure_ascii=True)"), "{\"b\": [1, {}], \"a\": \"\\u00e9\\\"\"}");
}

#[test]
fn goes_on_with_an_answer() {
    let opening = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]{% if add_generation_prompt and \
                   enable_thinking is not false %}<think>\n{% endif %}{# </think> #}";
    let (user, half) = (Message::text(Role::USER, "q"), Message::text(Role::ASSISTANT, "half"));
    let mut thought = half.clone();
    thought.thinking = "so".to_owned();
    let go_on = |last: &Message, think| render(opening, &[user.clone(), last.clone()], think).unwrap();
    assert_eq!(go_on(&half, Some(Think::Off)), "[user]q[assistant]half");
    assert_eq!(go_on(&half, Some(Think::On)), "[user]q[assistant]<think>\n\n</think>\n\nhalf");
    assert_eq!(go_on(&thought, Some(Think::On)), "[user]q[assistant]<think>\nso\n</think>\n\nhalf");
    assert_eq!(render("{% for m in messages %}{{ m.content }}{% endfor %}>", &[user, half], None).unwrap(), "q>half");
}

#[test]
fn learns_what_a_template_takes() {
    let (system, user) = (Message::text(Role::SYSTEM, "s"), Message::text(Role::USER, "u"));
    let no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                     {% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(render(no_system, &[system, user.clone()], None).unwrap(), "s\n\nu");
    let parts = "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}";
    assert_eq!(render(parts, std::slice::from_ref(&user), None).unwrap(), "u");
    let text_arguments = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ 'A' + c.function.arguments }}{% endfor %}{{ m.content }}{% endfor %}";
    assert_eq!(
        render(text_arguments, &[user.clone(), call(json!({"b": 1, "a": 2}))], None).unwrap(),
        "uA{\"b\": 1, \"a\": 2}"
    );
    let alternating = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate!') }}{% endif %}{{ m.content }}{% endfor %}";
    assert_eq!(render(alternating, &[user.clone(), user.clone()], None).unwrap(), "u\n\nu");
    let one_call = "{% for m in messages %}{% if m.tool_calls and m.tool_calls | length != 1 %}{{ raise_exception('one!') }}{% endif %}\
                    {{ m.content }}{% for c in m.tool_calls or [] %}[{{ c.function.arguments.n }}]{% endfor %}{% endfor %}";
    let mut two = call(json!({"n": 1}));
    two.tool_calls.extend(call(json!({"n": 2})).tool_calls);
    let results = [Message::text(Role::TOOL, "a"), Message::text(Role::TOOL, "b")];
    let messages: Vec<Message> = [user.clone(), two].into_iter().chain(results).collect();
    assert_eq!(render(one_call, &messages, None).unwrap(), "u[1]a[2]b");
    assert_eq!(
        render(alternating, &[Message::text(Role::TOOL, "t")], None).unwrap_err(),
        "chat template, line 1: alternate!"
    );
}

#[test]
fn takes_hugging_face_s_own_words() {
    let template = "{%- for m in messages[::-1] %}{% generation %}\n{{ m.content[:-1] }}{% endgeneration %}{% if loop.first %}{% continue %}{% endif %}\
                    {% endfor %}{{ bos_token }}{{ none }}{{ true }}{{ reasoning_effort }}{{ missing.inner is defined }}{{ strftime_now('%') }}";
    let messages = [Message::text(Role::USER, "ab"), Message::text(Role::USER, "cd")];
    let high = Some(Think::Level(ThinkLevel::High));
    assert_eq!(render(template, &messages, high).unwrap_err(), "chat template, line 2: bad date format \"%\"");
    let template = template.replace("{{ strftime_now('%') }}", "{{ strftime_now('%%') }}");
    assert_eq!(render(&template, &messages, high).unwrap(), "ca<s>NoneTruehighFalse%");
    assert!(render("{% if %}", &messages, None).unwrap_err().starts_with("chat template, line 1: "));
}

#[test]
fn has_no_endless_templates() {
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let error = render(endless, &[Message::text(Role::USER, "x")], None).unwrap_err();
    assert_eq!(error, "chat template, line 1: engine ran out of fuel");
    let long = format!("{{% for a in range(100000) %}}{}{{% endfor %}}", "x".repeat(10_000));
    assert!(render(&long, &[Message::text(Role::USER, "x")], None).is_err());
    let many: Vec<Message> =
        (0..10_000).map(|n| Message::text(if n % 2 == 0 { Role::USER } else { Role::ASSISTANT }, "x")).collect();
    assert!(render(CHATML, &many, None).unwrap().len() > 10_000 * 30);
}
