//! A flow as a Python program that uses `requests`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::again::{Again, Payload};
use super::literal::Language::Python;

/// The program.
pub(super) fn program(again: &Again<'_>) -> String {
    if let Some(refusal) = again.refusal() {
        return format!("# {refusal}\n");
    }
    let mut text = String::new();
    if let Some(Payload::File) = &again.payload {
        let _infallible = writeln!(text, "# before: {}", again.file_command());
    }
    if again.has_dots() {
        text.push_str("# requests takes the dots out of the path\n");
    }
    let mut imports = String::new();
    if let Some(Payload::Bytes(_)) = &again.payload {
        imports.push_str("import base64\n");
    }
    if again.has_variables() {
        imports.push_str("import os\n");
    }
    if !imports.is_empty() {
        imports.push('\n');
    }
    text.push_str(&imports);
    text.push_str("import requests\n\nresponse = requests.request(\n");
    push(&mut text, &Python.literal(again.method));
    push(&mut text, &Python.expression(&again.url));
    push_fields(&mut text, again);
    if let Some(payload) = &again.payload {
        let data = match payload {
            Payload::Text(inline) => format!("{}.encode()", Python.literal(inline)),
            Payload::Bytes(bytes) => {
                format!("base64.b64decode(\"{}\")", BASE64.encode(bytes))
            }
            Payload::File => format!("open({}, \"rb\")", Python.literal(&again.file())),
        };
        push(&mut text, &format!("data={data}"));
    }
    push(&mut text, "allow_redirects=False");
    text.push_str(")\nprint(response.status_code)\nprint(response.text)\n");
    if again.is_cut {
        text.push_str("# not all of the body was kept\n");
    }
    text
}

fn push(text: &mut String, argument: &str) {
    let _infallible = writeln!(text, "    {argument},");
}

fn push_fields(text: &mut String, again: &Again<'_>) {
    let fields = again.fields_once();
    if fields.is_empty() {
        return;
    }
    text.push_str("    headers={\n");
    for (name, value) in fields {
        let (name, value) = (Python.literal(name), Python.value(&value));
        let _infallible = writeln!(text, "        {name}: {value},");
    }
    text.push_str("    },\n");
}
