//! What constraints allow, and what they refuse.

use std::time::{Duration, Instant};

use super::*;

fn bytes() -> Vocabulary {
    let mut pieces: Vec<Piece> = (0..=255).map(|byte| Piece { bytes: vec![byte], special: false }).collect();
    pieces.push(Piece { bytes: b"<end>".to_vec(), special: true });
    pieces.push(Piece { bytes: b"[CALL]".to_vec(), special: true });
    Vocabulary::new(Arc::new(Tokens::new(pieces, vec![256])))
}

fn follow(constrained: &mut Constrained, text: &str) -> Result<(), usize> {
    for (index, byte) in text.bytes().enumerate() {
        if let Some(mask) = constrained.allowed().unwrap()
            && !mask.is_allowed(u32::from(byte))
        {
            return Err(index);
        }
        constrained.accept(u32::from(byte), &[byte]).unwrap();
    }
    Ok(())
}

#[test]
fn only_what_fits_is_allowed() {
    let schema = r#"{"type":"object","properties":{"age":{"type":"integer"}},"required":["age"]}"#;
    let constraint = Constraint { schema: schema.into(), after: None, calls: Vec::new() };
    let mut good = bytes().constrain(&constraint).unwrap();
    assert_eq!(follow(&mut good, r#"{"age": 42}"#), Ok(()));
    assert!(good.allowed().unwrap().unwrap().is_allowed(256));
    assert_eq!(follow(&mut bytes().constrain(&constraint).unwrap(), r#"{"age": "x"}"#), Err(8));
}

#[test]
fn it_waits_for_the_end_of_thinking() {
    let constraint =
        Constraint { schema: r#"{"type":"object"}"#.into(), after: Some("</think>".into()), calls: Vec::new() };
    let mut constrained = bytes().constrain(&constraint).unwrap();
    assert_eq!(follow(&mut constrained, "well then</think>{\"a\": 1}"), Ok(()));
    assert!(follow(&mut bytes().constrain(&constraint).unwrap(), "</think>no").is_err());
}

#[test]
fn blanks_may_follow_thinking_and_a_call_may_take_the_json_s_place() {
    let mut constraint = Constraint {
        schema: r#"{"type":"object"}"#.into(),
        after: None,
        calls: vec!["<call>".into(), "[CALL]".into()],
    };
    let follows = |constraint: &Constraint, text: &str| follow(&mut bytes().constrain(constraint).unwrap(), text);
    assert_eq!(follows(&constraint, "<call>anything at all"), Ok(()));
    assert_eq!(follows(&constraint, "{\"a\": \"<call>\"}"), Ok(()));
    assert_eq!((follows(&constraint, "<cat"), follows(&constraint, "\n{")), (Err(3), Err(0)));
    let mut special = bytes().constrain(&constraint).unwrap();
    assert!(special.allowed().unwrap().unwrap().is_allowed(257));
    special.accept(257, b"[CALL]").unwrap();
    assert!(special.allowed().unwrap().is_none() && !special.is_over());

    constraint.after = Some("</t>".into());
    assert_eq!(follows(&constraint, "so</t>\n\n{\"a\": 1}"), Ok(()));
    assert_eq!(follows(&constraint, "so</t>\n<call>x"), Ok(()));
    assert_eq!(follows(&constraint, &format!("</t>{}", " ".repeat(20))), Err(12));
    constraint.calls.clear();
    assert_eq!(follows(&constraint, "</t>\n<"), Err(5));
}

#[test]
fn a_bad_schema_is_the_clients_error() {
    let error = |schema: &str| {
        let constraint = Constraint { schema: schema.into(), after: None, calls: Vec::new() };
        bytes().constrain(&constraint).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(error(r#"{"type":"banana"}"#), "invalid format: Invalid type: banana");
    assert_eq!(
        error(r##"{"properties":{"a":{"items":{"$ref":"#/$defs/b"}}},"$defs":{"b":{"not":{}}}}"##),
        r#"invalid format: /properties/a/items: Unimplemented keys: ["not"]"#
    );
    assert_eq!(
        error(r#"{"anyOf":[{"type":"null"},{"pattern":"(","type":"string"}]}"#),
        "invalid format: /anyOf/1: the pattern cannot be read: unclosed group"
    );
    assert_eq!(error(r##"{"$ref":"#"}"##), "invalid format: nothing fits the schema");
    assert!(error(&format!(r#"{{"properties":{{"a":["{}"]}}}}"#, "é".repeat(99))).contains("/properties/a: "));
    let either = r#"{"oneOf":[{"type":"null"},{"type":"integer"}]}"#;
    let constraint = Constraint { schema: either.into(), after: None, calls: Vec::new() };
    assert_eq!(follow(&mut bytes().constrain(&constraint).unwrap(), "17"), Ok(()));
}

#[test]
fn hostile_schemas_cost_little() {
    let vocabulary = bytes();
    let properties: String = (0..300).map(|n| format!(r#","p{n}":{{"type":"string"}}"#)).collect();
    let words: Vec<String> = (0..100_000).map(|n| format!("\"word{n}\"")).collect();
    for (schema, refused) in [
        (
            r#"{"items":{"type":"array","minItems":10000000}}"#.to_owned(),
            Some("/items: minItems is larger than 1000000"),
        ),
        (
            r#"{"properties":{"a":{"type":"string","minLength":1e18}}}"#.to_owned(),
            Some("/properties/a: minLength is larger"),
        ),
        (format!(r#"{{"enum":[{}]}}"#, words.join(",")), Some("the schema has more than 1048576 bytes")),
        (r#"{"type":"array","minItems":900000,"items":{"type":"array","minItems":900000}}"#.to_owned(), None),
        (r#"{"type":"array","maxItems":4000000000}"#.to_owned(), None),
        (r#"{"type":"string","pattern":".{0,100000}"}"#.to_owned(), None),
        (r#"{"type":"string","pattern":"^(a+)+$"}"#.to_owned(), None),
        (r#"{"type":"string","pattern":"^(.{0,1000}x){0,1000}$","minLength":3}"#.to_owned(), None),
        (r#"{"type":"string","pattern":"^(a|b)*a(a|b){30}$"}"#.to_owned(), None),
        (format!(r#"{{"type":"object","properties":{{"a":{{"type":"null"}}{properties}}}}}"#), None),
    ] {
        let constraint = Constraint { schema: schema.clone(), after: None, calls: Vec::new() };
        let began = Instant::now();
        let made = vocabulary.constrain(&constraint).map(|_| ()).map_err(|error| error.to_string());
        let shown = &schema[..schema.len().min(60)];
        match refused {
            Some(refused) => assert!(made.unwrap_err().contains(refused), "{shown}"),
            None => assert_eq!(made, Ok(()), "{shown}"),
        }
        // Seconds without the compiler's help are tenths of one with it.
        assert!(began.elapsed() < Duration::from_secs(20), "{shown} took {:?}", began.elapsed());
    }
}

#[test]
fn tokens_of_several_bytes_may_stand_before_the_json() {
    let texts: [&[u8]; 11] =
        [b"\n", b"\n\n  ", b" \t<ca", b"<call", b"ll>", b"ll>{\"x", b"lx", b">", b"[CALL]", b"{", b"<end>"];
    let piece = |text: &&[u8]| Piece { bytes: text.to_vec(), special: matches!(*text, b"[CALL]" | b"<end>") };
    let vocabulary = Vocabulary::new(Arc::new(Tokens::new(texts.iter().map(piece).collect(), vec![10])));
    let calls = vec![" <call>".into(), "[CALL]".into()];
    let constraint = Constraint { schema: r#"{"type":"object"}"#.into(), after: Some("</t>".into()), calls };
    let allowed = |typed: &[usize]| {
        let mut constrained = vocabulary.constrain(&constraint).unwrap();
        constrained.accept(0, b"</t>").unwrap();
        typed.iter().for_each(|token| constrained.accept(*token as u32, texts[*token]).unwrap());
        let mask = constrained.allowed().unwrap();
        (0..11).filter(|token| mask.as_ref().is_none_or(|mask| mask.is_allowed(*token))).collect::<Vec<u32>>()
    };
    assert_eq!(allowed(&[]), [0, 1, 2, 3, 8, 9]);
    // Eight blanks at the most: six are there, and then there is room for two.
    assert_eq!(allowed(&[1, 0, 0]), [0, 2, 3, 8, 9]);
    assert_eq!(allowed(&[1, 1]), [3, 8, 9]);
    // Behind half a call comes its rest, or a part of it.
    assert_eq!(allowed(&[0, 2]), [4, 5]);
    assert_eq!(allowed(&[3]), [7]);
    // Behind the whole of it comes anything.
    assert_eq!(allowed(&[2, 5]).len(), 11);
}
