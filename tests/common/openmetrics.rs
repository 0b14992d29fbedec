//! A strict reader of the OpenMetrics text format, as far as counters and gauges go.

use std::collections::{BTreeMap, HashSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Family {
    pub kind: String,
    pub samples: BTreeMap<Labels, f64>,
}

/// Families by name. Panics where the text is not valid: a family that is not in one piece, a
/// sample twice, a bad name, an escape that is none, no end.
pub fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    let body = text.strip_suffix("# EOF\n").expect("the end");
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help");
            assert!(is_name(name) && !help.is_empty(), "{line}");
            current = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, current, "{line}");
            let family = Family { kind: kind.to_owned(), samples: BTreeMap::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "twice: {line}");
        } else {
            let family = families.get_mut(&current).expect("a type before samples");
            let suffix = if family.kind == "counter" { "_total" } else { "" };
            let rest = line.strip_prefix(&current).and_then(|rest| rest.strip_prefix(suffix));
            let (labels, value) =
                labels(rest.unwrap_or_else(|| panic!("of another family: {line}")));
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(family.samples.insert(labels, value).is_none(), "twice: {line}");
        }
    }
    families
}

pub fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The labels, and what comes after them.
fn labels(sample: &str) -> (Labels, &str) {
    let Some(mut rest) = sample.strip_prefix('{') else {
        return (Labels::new(), sample.strip_prefix(' ').expect("a value"));
    };
    let (mut labels, mut names) = (Labels::new(), HashSet::new());
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name) && names.insert(name), "the label {name:?} of {sample}");
        let (value, after) = unescape(after);
        labels.insert(name.to_owned(), value);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, after.strip_prefix("} ").expect("a value")),
        }
    }
}

/// Up to the closing quote, and what comes after it.
fn unescape(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().expect("an escape").1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                c => panic!("the escape {c:?}"),
            }),
            c => value.push(c),
        }
    }
    panic!("no closing quote: {text}")
}
