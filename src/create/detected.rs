//! The template that comes to a model whose own chat template writes a known format.

use super::{CreateRequest, Given};
use crate::prompt::detect::detect;
use crate::prompt::named::Named;
use crate::store::{MediaType, Model};

/// Takes the format that the files' chat template writes for the request's own, where it asks for none.
pub(super) fn detected(request: &mut CreateRequest, base: Option<&Model>, given: &Given) -> Option<&'static Named> {
    let asks = [&request.template, &request.renderer, &request.parser].into_iter().any(|text| !text.is_empty());
    let adapted = given.layers.iter().any(|layer| layer.media_type == MediaType::Adapter);
    if asks || adapted || base.is_some() {
        return None;
    }
    let named = detect(given.chat.as_ref()?)?;
    named.template.clone_into(&mut request.template);
    if !named.stop.is_empty() {
        request.parameters.entry("stop").or_insert_with(|| named.stop.into());
    }
    Some(named)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{Place, TEMPLATE, head, object, request, tiny};
    use super::*;
    use crate::types::ModelName;

    #[test]
    fn a_chat_template_of_a_known_format_becomes_a_template() {
        let place = Place::new();
        let jinja = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
                     {{ '<|im_start|>assistant\\n' }}";
        let weights = |jinja: &str| head(&[("general.architecture", "llama"), ("tokenizer.chat_template", jinja)], &[]);
        let file = place.file("m.gguf", &weights(jinja));
        let asked = |name: &str| CreateRequest { files: vec![file.clone()], ..request(name) };
        let said = place.create(asked("found")).unwrap();
        assert_eq!((said.len(), said[2].as_str()), (6, "using autodetected template chatml"), "{said:?}");
        let found = place.model("found");
        assert!(found.template.unwrap().contains("<|im_start|>assistant"));
        assert_eq!(found.parameters, object(json!({ "stop": ["<|im_start|>", "<|im_end|>"] })));

        let parameters = object(json!({ "stop": ["x"], "seed": 1 }));
        place.create(CreateRequest { parameters: parameters.clone(), ..asked("stopped") }).unwrap();
        let stopped = place.model("stopped");
        assert_eq!((stopped.parameters, stopped.template.is_some()), (parameters, true), "the client's own go before");
        // what is made of the model has what it had, and is asked nothing anew
        let from = Some(ModelName::parse("found").unwrap());
        let said = place.create(CreateRequest { from, ..request("other") }).unwrap();
        assert!(said.iter().all(|line| !line.contains("autodetected")) && place.model("other").template.is_some());

        let adapter = head(&[("general.architecture", "llama"), ("general.type", "adapter")], &[]);
        let adapters = vec![place.file("a.gguf", &adapter)];
        for made in [
            CreateRequest { template: TEMPLATE.to_owned(), ..asked("a") },
            CreateRequest { renderer: "qwen3-coder".to_owned(), ..asked("b") },
            CreateRequest { parser: "qwen3-coder".to_owned(), ..asked("c") },
            CreateRequest { adapters, ..asked("d") },
            CreateRequest {
                files: vec![place.file("n.gguf", &weights(&jinja.replace("im_end", "im_off")))],
                ..request("e")
            },
            CreateRequest { files: vec![place.file("t.gguf", &tiny("tiny-q8_0.gguf"))], ..request("f") },
        ] {
            let name = made.name.clone();
            let said = place.create(made).unwrap();
            assert!(said.iter().all(|line| !line.contains("autodetected")), "{name}");
            assert!(!place.model(name.model()).parameters.contains_key("stop"), "{name}");
        }
    }
}
