//! What a template's values may weigh. minijinja counts instructions, but one of them can make a text twice as long, or a
//! million times. The [guards](super) have every value looked at here that could have grown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use minijinja::value::{Kwargs, Object, Rest, StringInput, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};
use minijinja_contrib::pycompat;
use tokio::time::Instant;

use super::{HELD, KEEP, NUMBER, PAY, STORED, TIMES};

/// Bytes of one value, all that it holds included, as often as it holds it.
const LARGEST: usize = 16 << 20;
/// Bytes of all values that a prompt makes.
const ALL: usize = 1 << 29;
/// And the time it may take.
const TIME: Duration = Duration::from_secs(20);
/// Of a value, beside its text.
const VALUE: usize = 32;
/// Values within each other: JSON from clients may have 512.
const DEPTH: usize = 520;
/// Parts of a list, and letters of a field.
const WIDEST: usize = 9999;

/// What the guards call, and what could make much of little in one step.
pub fn install(environment: &mut Environment<'_>) {
    environment.add_filter(KEEP, keep);
    environment.add_filter(HELD, held);
    environment.add_filter(STORED, stored);
    environment.add_filter(TIMES, times);
    environment.add_filter(NUMBER, number);
    environment.add_filter(PAY, pay);
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("format", format);
    environment.add_filter("pprint", pprint);
    environment.add_filter("batch", batch);
    environment.add_filter("slice", slice);
    environment.set_unknown_method_callback(method);
    // It writes all values there are.
    environment.remove_global("debug");
}

#[derive(Debug)]
struct Spent {
    bytes: AtomicUsize,
    until: Instant,
}

impl Object for Spent {}

fn error(text: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, text)
}

fn too_large() -> Error {
    error("a value of the template is too large")
}

fn spend(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let new = || Spent { bytes: AtomicUsize::new(0), until: Instant::now() + TIME };
    let spent = state.get_or_set_temp_object("hanzod.spent", new);
    let before = spent.bytes.fetch_add(bytes.min(ALL), Ordering::Relaxed);
    if before.saturating_add(bytes) > ALL {
        return Err(error("the template takes too much memory"));
    }
    if Instant::now() > spent.until {
        return Err(error("the template takes too long"));
    }
    Ok(())
}

/// What a value weighs, unless that is too much.
fn weight(value: &Value) -> Result<usize, Error> {
    let mut left = LARGEST;
    weigh(value, DEPTH, &mut left)?;
    Ok(LARGEST - left)
}

fn weigh(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    let bytes = VALUE + value.as_str().map_or(0, str::len);
    *left = left.checked_sub(bytes).ok_or_else(too_large)?;
    let inner = || depth.checked_sub(1).ok_or_else(|| error("values of the template are too deep within each other"));
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let depth = inner()?;
            value.try_iter()?.try_for_each(|item| weigh(&item, depth, left))
        }
        ValueKind::Map => {
            let depth = inner()?;
            let pairs = value.as_object().and_then(|object| object.try_iter_pairs());
            pairs.into_iter().flatten().try_for_each(|(name, value)| {
                weigh(&name, depth, left)?;
                weigh(&value, depth, left)
            })
        }
        _ => Ok(()),
    }
}

/// A value that was made, or goes into one.
pub fn keep(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    weight(&value)?;
    // What a list or a map holds was paid for when it was made, or came with the request.
    let own = value.as_str().map_or_else(|| value.len().unwrap_or(0).saturating_mul(VALUE), str::len);
    spend(state, VALUE.saturating_add(own))?;
    Ok(value)
}

/// One that is only looked at, but wholly.
fn held(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    weight(&value)?;
    spend(state, 0)?;
    Ok(value)
}

/// One that goes into a namespace. What would hold that very namespace would never be freed.
fn stored(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    fn is_plain(value: &Value) -> bool {
        let own = |object: &minijinja::value::DynObject| object.type_name().ends_with("::Namespace");
        match value.kind() {
            ValueKind::Plain => false,
            ValueKind::Map => {
                let object = value.as_object();
                let pairs = object.and_then(|object| object.try_iter_pairs()).into_iter().flatten();
                !object.is_some_and(own) && pairs.into_iter().all(|(_, value)| is_plain(&value))
            }
            ValueKind::Seq | ValueKind::Iterable => {
                value.try_iter().is_ok_and(|mut items| items.all(|item| is_plain(&item)))
            }
            _ => true,
        }
    }
    let value = keep(state, value)?;
    if !is_plain(&value) {
        return Err(error("a namespace cannot hold namespaces or macros"));
    }
    Ok(value)
}

fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

/// `*`, which minijinja lets make texts of 100 MB and lists of any length.
fn times(state: &State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    let (many, count) = if is_number(&left) { (&right, &left) } else { (&left, &right) };
    if is_number(many) {
        let is_whole = |value: &Value| value.is_integer() || value.kind() == ValueKind::Bool;
        let whole = |value: &Value| is_whole(value).then(|| i128::try_from(value.clone()).ok()).flatten();
        return match (whole(&left), whole(&right)) {
            (Some(left), Some(right)) => {
                let product = left.checked_mul(right).ok_or_else(|| error("a number is too large"))?;
                Ok(i64::try_from(product).map_or_else(|_| Value::from(product), Value::from))
            }
            _ => Ok(Value::from(f64::try_from(left)? * f64::try_from(right)?)),
        };
    }
    let count = count.as_usize().ok_or_else(|| error("only by whole numbers can texts and lists be multiplied"))?;
    let bytes = weight(many)?.checked_mul(count).filter(|bytes| *bytes <= LARGEST).ok_or_else(too_large)?;
    spend(state, bytes)?;
    match many.as_str() {
        Some(text) => Ok(Value::from(text.repeat(count))),
        None => {
            let items: Vec<Value> = many.try_iter()?.collect();
            Ok((0..count).flat_map(|_| &items).cloned().collect())
        }
    }
}

/// A factor among others, which must not be a text or a list.
fn number(value: Value) -> Result<Value, Error> {
    if is_number(&value) {
        return Ok(value);
    }
    Err(error("texts and lists can only be multiplied by one number"))
}

/// For text that stands in a loop, each time around. Never true.
fn pay(state: &State<'_, '_>, bytes: usize) -> Result<bool, Error> {
    spend(state, bytes)?;
    Ok(false)
}

/// Bytes that a text has when one is put for each other in it.
fn replaced(text: &str, old: &str, new: &str) -> usize {
    let more = new.len().saturating_sub(old.len());
    let found = if more == 0 { 0 } else { text.matches(old).count() };
    text.len().saturating_add(found.saturating_mul(more))
}

/// Bytes that a list has as a text.
fn joined(list: &Value, between: usize) -> Result<usize, Error> {
    let count = list.try_iter().map_or(0, Iterator::count);
    Ok(weight(list)?.saturating_add(count.saturating_mul(between)))
}

/// Bytes that fields may fill at the most.
fn formatted(format: &str, args: &[Value]) -> Result<usize, Error> {
    let wide = format.split(|letter: char| !letter.is_ascii_digit()).any(|digits| digits.len() > 4);
    if wide || format.contains('*') {
        return Err(error("a field of the format is too wide"));
    }
    let fields = format.matches(['%', '{']).count();
    let mut all = WIDEST;
    for arg in args {
        all = all.saturating_add(weight(arg)?);
    }
    Ok(format.len().saturating_add(fields.saturating_mul(all)))
}

fn replace(
    state: &State<'_, '_>,
    value: StringInput<'_>,
    old: StringInput<'_>,
    new: StringInput<'_>,
) -> Result<Value, Error> {
    spend(state, replaced(value.as_str(), old.as_str(), new.as_str()))?;
    filters::replace(state, value, old, new)
}

fn join(state: &State<'_, '_>, value: &Value, joiner: Option<StringInput<'_>>) -> Result<Value, Error> {
    spend(state, joined(value, joiner.as_ref().map_or(0, |joiner| joiner.as_str().len()))?)?;
    filters::join(state, value, joiner)
}

fn indent(state: &State<'_, '_>, value: StringInput<'_>, args: Rest<Value>) -> Result<Value, Error> {
    let (width, first, blank, options): (Option<usize>, Option<bool>, Option<bool>, Kwargs) = from_args(&args)?;
    let wide = width.or(options.get::<Option<usize>>("width")?).unwrap_or(0);
    let lines = 1 + value.as_str().matches('\n').count();
    spend(state, value.as_str().len().saturating_add(lines.saturating_mul(wide)))?;
    filters::indent(value, width, first, blank, options)
}

fn format(state: &State<'_, '_>, format: &Value, args: Rest<Value>) -> Result<Value, Error> {
    spend(state, formatted(format.as_str().unwrap_or_default(), &args)?)?;
    filters::format(state, format, args)
}

fn pprint(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    spend(state, weight(value)?.saturating_mul(DEPTH))?;
    Ok(filters::pprint(value))
}

fn batch(state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    parts(&value, count)?;
    filters::batch(state, value, count, fill)
}

fn slice(state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    parts(&value, count)?;
    filters::slice(state, value, count, fill)
}

fn parts(value: &Value, count: usize) -> Result<(), Error> {
    if count > WIDEST {
        return Err(error("too many parts of a list"));
    }
    weight(value).map(drop)
}

/// Python's methods of texts and lists.
fn method(state: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    if text.len() > LARGEST {
        return Err(too_large());
    }
    let arg = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
    let bytes = match name {
        "replace" => replaced(text, arg(0), arg(1)),
        "join" => args.first().map_or(Ok(0), |list| joined(list, text.len()))?,
        "format" => formatted(text, args)?,
        // It would be looked for for ever.
        "count" if value.as_str().is_some() && arg(0).is_empty() => return Err(error("nothing cannot be counted")),
        _ => text.len(),
    };
    spend(state, bytes)?;
    let made = pycompat::unknown_method_callback(state, value, name, args)?;
    keep(state, made)
}
