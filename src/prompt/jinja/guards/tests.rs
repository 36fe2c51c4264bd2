//! Guards change nothing but what a template may cost.

use minijinja::context;

use super::super::environment::{environment, render, with_template};
use super::*;

/// Renders with and without guards.
fn both(text: &str) -> [Result<String, String>; 2] {
    let data = || {
        let message = |role, content| context! { role, content };
        context! {
            messages => [message("user", "a\nb"), message("assistant", "c,d")],
            tools => [context! { name => "get", parameters => context! { a => 1.5, b => [1, 2] } }],
            n => 7, yes => true, word => "word",
        }
    };
    [guarded(text), text.to_owned()].map(with_template).map(|environment| {
        environment.and_then(|environment| render(&environment, data())).map_err(|error| error.to_string())
    })
}

#[test]
fn templates_mean_what_they_meant() {
    let long = "x".repeat(SHORT);
    for text in [
        "{{ 1 + 2 * 3 - 8 / 2 }} {{ 2 * 3 ** 2 }} {{ 7 // 2 * 3 % 4 }} {{ -2 * 3 }} {{ 8 / 2 * 4 }} {{ 2 ** 3 * 2 }} {{ 5 - 2 * 2 }}",
        "{{ 1.5 * 2 }} {{ 2 * 1.5 * 2 }} {{ 2.0 * 3 }} {{ 1e3 * 1 }} {{ yes * 3 }} {{ 9223372036854775807 * 3 }} {{ 2 * -n }}",
        "{{ 'ab' * 2 ~ 'c' }} {{ 2 * 'ab' }} {{ [1, 2] * 2 }} {{ (1 + 2) * (3 + 4) * 2 }} {{ 'a' ~ 1 * 2 ~ 'b' }} {{ word[1:] * 2 }}",
        "{{ 'a' ~ 'b' ~ n ~ none ~ missing ~ 1.0 }} {{ word + 'x' + word }} {{ ([1] + [n] + [3]) | join(', ') }}",
        "{{ word if yes else 'b' ~ 'c' }} {{ (word ~ 'x') | upper ~ '-' }} {{ word | upper | lower | length + 1 }}",
        "{{ messages[0].content }} {{ messages[-1]['role'] }} {{ messages[0:1] }} {{ word[0:2] ~ word[::-1] }} {{ [1, 2, 3][-1:] }}",
        "{{ {'a': 1, 'b': [1, {'c': 2}]}.b[1]['c'] }} {{ {'a': {}} }} {{ {'a' ~ 'b': 1 + 1} }} {{ [] }} {{ (1, 2) }} {{ {} }}",
        "{{ missing is not defined and n is odd or word is string }} {{ 3 is divisibleby 3 }} {{ 3 is divisibleby(3) }}",
        "{{ none is none }} {{ not 1 in [1] }} {{ 1 not in [2] }} {{ 'a' in 'abc' and 'b' == 'b' }} {{ n == 7 != 3 }} {{ 1 in [1] + [2] }}",
        "{{ word is in ['word'] }} {{ n is eq(7) }} {{ n + 1 is number }} {{ word | default('x') is string }} {{ missing.a.b is defined }}",
        "{% for m in messages %}{{ loop.index0 * 2 + 1 }}{{ m.role ~ ': ' ~ m.content }}{% if not loop.last %}, {% endif %}{% endfor %}",
        "{% for m in messages + messages if m.role == 'user' %}{{ loop.length }}{{ m['content'].split('\n') | join('-') }}{% else %}x{% endfor %}",
        "{% for k, v in {'a': 1, 'b': 2} | items %}{{ k ~ '=' ~ v }}{% endfor %}{% for k in tools[0].parameters %}{{ k }}{% endfor %}",
        "{% for x in [[1, [2]], [3]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}",
        "{% set x = 'a' ~ word %}{% set a, b = 1, word ~ x %}{{ a }}{{ b }}{% set ns = namespace(t='', n=0, f=false) %}\
         {% for m in messages %}{% set ns.t = ns.t ~ m.content %}{% set ns.n = ns.n + 1 %}{% set ns.f = not ns.f %}{% endfor %}{{ ns.t }}{{ ns.n }}{{ ns.f }}",
        "{% set x %}a{{ n }}{% endset %}{{ x ~ x }}{% set y | upper | replace('A', 'b') %}a{{ word }}{% endset %}{{ y }}",
        "{% macro m(a, b='x' ~ 'y', c=[1, 2]) %}{{ a ~ b ~ c }}{% endmacro %}{{ m(1) ~ m(b=word, a=2) }}{{ m(*[1, 2], **{'c': n}) }}",
        "{% macro m(a) %}<{{ caller(a ~ 'b') }}>{% endmacro %}{% call(x) m('c') %}{{ x }}{% endcall %}{% call(x, y=2 * 3) m('c' ~ word) %}{{ x }}{{ y }}{% endcall %}",
        "{% filter replace('a', 'b' ~ 'c') %}banana{% endfilter %}{% filter upper %}x{% endfilter %}{% with a = n + 1, b = word %}{{ a ~ b }}{% endwith %}",
        "{% do messages.count(1) %}{% if n > 3 and n <= 7 + 1 %}y{% elif word ~ 'x' == 'wordx' %}z{% else %}w{% endif %}",
        "{{ tools | tojson }} {{ tools | tojson(indent=2) }} {{ tools[0].parameters | tojson(separators=(',', ':')) }}",
        "{{ 'a,b'.split(',')[0] }} {{ word.replace('o', '00') | replace('00', 'u') }} {{ '-'.join(['a', word]) }} {{ 'x{}y{:>4}'.format(1, n) }}",
        "{{ '%s-%05d' | format(word, n) }} {{ messages[0].content | indent(2, true) }} {{ messages[0].content | indent(width=3) }} {{ 'aXbX'.count('X') }}",
        "{{ range(5) | batch(2, 'f') | list }} {{ range(5) | slice(2) | list }} {{ messages | map(attribute='role') | join(', ') }}",
        "{{ '}}' ~ \"%}\" ~ 'it\\'s' ~ '{{ x }}' }}{# {{ a ~ }} #}{% raw %}{{ a ~ b }} {% for %}{% endraw %}{{- ' x ' -}} {%- if n +%} {% endif %}",
        &format!("{{% for m in messages %}}\n  {long}\n  {{% if n %}}\n  y\n  {{% endif %}}\n{{% endfor %}}\nend"),
        &format!("{{%- for m in messages -%}}\n  {long}{{{{ m.role }}}}\n{{%- endfor +%}}\nend"),
        &format!("{{% for m in messages +%}}\n  {long}{{% for x in [1] %}}{long}\n{{% endfor %}}{{% endfor %}}"),
        // Words that are keywords elsewhere.
        "{% set is = 'a' %}{% set in = 'b' %}{{ is ~ in }}{{ is * 2 }}{{ in if is else in }}{{ is in in }}{{ {'if': 'c'}.if * 2 }}",
        "{% set recursive = 'r' %}{% for x in [recursive] recursive %}{{ recursive * 2 ~ x }}{% endfor %}{{ 1 is not none and not n is none }}",
        "{{ a.0 }}{{ 1 +2 }}{{ 'x'~'y' }}{{-1*2-}}{{ n.real }}",
        "{{ 1 + }}",
        "{% for x %}",
        "{{ 'x }}",
        "{% set = 1 %}",
        "{{ (1 }}",
        "{% if %}x",
        "{{ ] }}",
        "{%",
        "{{",
        "{% raw %}x",
        "{# x",
    ] {
        let [guarded, plain] = both(text);
        match plain {
            Ok(plain) => assert_eq!(guarded.as_deref(), Ok(plain.as_str()), "{text}\n{}", super::guarded(text)),
            Err(_) => assert!(guarded.is_err(), "{text}"),
        }
    }
}

#[test]
fn nothing_is_too_deep() {
    for text in
        ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"]
    {
        let environment = environment(text).unwrap();
        assert!(render(&environment, context! {}).is_err());
    }
}

#[test]
fn no_template_fills_the_memory() {
    let grows = |with: &str| {
        format!(
            "{{% set ns = namespace(x='ab', l=['ab'], if='ab') %}}{{% for i in range(60) %}}{{% set ns.x = {with} %}}{{% endfor %}}{{{{ ns.x }}}}"
        )
    };
    let lists = |with: &str| grows("0").replace("ns.x = 0", &format!("ns.l = {with}")) + "{{ ns.l | length }}";
    let texts = [
        "ns.x ~ ns.x",
        "ns.x + ns.x",
        "ns.x * 2",
        "2 * ns.x",
        "'' ~ ns.x ~ ns.x",
        "(ns.x) ~ (ns.x)",
        "[ns.x, ns.x] | join",
        "''.join([ns.x, ns.x])",
        "ns.x | replace('a', 'aba')",
        "ns.x.replace('', 'abc')",
        "'%s%s' | format(ns.x, ns.x)",
        "'{0}{0}'.format(ns.x)",
        "ns.x | indent(100000000, true)",
        "ns.x | batch(1000000000000, 1)",
        "'%999999999d' | format(1)",
        "'{:999999999}'.format(1)",
        "[ns.x, ns.x] | string",
        "[ns.x, ns.x] | tojson",
        "'a' * 10 ** 9",
        "'a' * 1000000000",
        "([1] * 10 ** 17) | list",
        "2 / 2 * 'a' * 1000",
        "'' .count('')",
    ];
    let values = [
        "ns.l + ns.l",
        "[ns.l, ns.l]",
        "[ns.l]",
        "{'a': ns.l, 'b': ns.l}",
        "dict(a=ns.l)",
        "ns.l * 2",
        "(ns.l + ns.l) | list",
        "[ns]",
        "ns",
    ];
    let mut all: Vec<String> = texts.iter().map(|with| grows(with)).collect();
    all.extend(values.iter().map(|with| lists(with).replace("range(60)", "range(1000)")));
    // Names that are keywords elsewhere, as far as they may be names.
    for name in ["is", "in", "and", "or", "if", "else", "recursive"] {
        let set = format!("{{% set {name} = ns.x %}}{{% set ns.{name} = {name} %}}");
        for with in [format!("{name} ~ {name}"), format!("{name} * 3"), format!("ns.{name} * 3")] {
            let text = grows(&with).replace("{% set ns.x", &format!("{set}{{% set ns.x"));
            all.extend(with_template(text.clone()).is_ok().then_some(text));
        }
    }
    assert!(all.len() > texts.len() + values.len() + 12, "some may");
    all.push("{% set ns = namespace(x=1) %}{% set y, ns.x = 1, ns %}".to_owned());
    let big = "{% set b = 'a' * 10000000 %}{% set ns = namespace(l=[], n=0) %}";
    for more in [
        "{% for i in range(1000) %}{% set ns.l = ns.l + [b ~ i] %}{% endfor %}",
        "{% set x %}{% for i in range(1000) %}{{ b }}{% endfor %}{% endset %}",
        "{% macro m() %}{% for i in range(1000) %}{{ b }}{% endfor %}{% endmacro %}{% set x = m() %}",
        "{% filter upper %}{% for i in range(1000) %}{{ b }}{% endfor %}{% endfilter %}",
        "{{ range(1000) | map('replace', '1', b) | join }}",
        "{{ ['%s'] * 1000 | map('format', b) | list }}",
        "{% set l = [b] * 3 %}{{ l * 3 }}",
        "{{ b | list | length }}{{ b.split('') | length }}{{ [b, b] | list }}",
        "{{ (b ~ b ~ b ~ b).split('') | length }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% if b == b ~ '' %}{% endif %}{% endfor %}{% endfor %}",
    ] {
        all.push(format!("{big}{more}"));
    }
    let raw = "y".repeat(100_000);
    all.push(format!("{{% set x %}}{{% for i in range(100000) %}}{raw}{{% endfor %}}{{% endset %}}"));
    for text in all {
        let environment = environment(&text).unwrap();
        let error = render(&environment, context! {}).map(|text| text.len()).unwrap_err().to_string();
        let told = [
            "too large",
            "too much memory",
            "too deep",
            "too long",
            "too wide",
            "too many parts",
            "cannot hold",
            "cannot be counted",
            "multiplied",
        ];
        assert!(told.iter().any(|told| error.contains(told)), "{text:.200}: {error}");
    }
}
