//! A flow as a JavaScript module that uses `fetch`, as Node, Deno and Bun have it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::again::{Again, Payload, Piece, is_ascii};
use super::literal::Language::JavaScript;

/// Fields that `fetch` refuses to send.
const REFUSED: [&str; 1] = ["upgrade"];

/// A variable that is missing would become the text `undefined`.
const VARIABLE: &str = "
function variable(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}
";

/// The module.
pub(super) fn module(again: &Again<'_>) -> String {
    if let Some(refusal) = again.refusal() {
        return format!("// {refusal}\n");
    }
    let mut text = String::new();
    let is_bodiless = matches!(again.method, "GET" | "HEAD");
    let payload = again.payload.as_ref().filter(|_| !is_bodiless);
    if let Some(Payload::File) = payload {
        let _infallible = writeln!(text, "// before: {}", again.file_command());
    }
    if again.has_dots() {
        text.push_str("// fetch takes the dots out of the path\n");
    }
    if is_bodiless && again.payload.is_some() {
        let _infallible = writeln!(text, "// fetch sends no body with {}", again.method);
    }
    let mut imports = String::new();
    let is_bytes = matches!(payload, Some(Payload::Bytes(_)));
    if is_bytes || sent_fields(again).iter().any(|(_, value)| !is_ascii(value)) {
        imports.push_str("import { Buffer } from \"node:buffer\";\n");
    }
    if let Some(Payload::File) = payload {
        imports.push_str("import { readFile } from \"node:fs/promises\";\n");
    }
    if again.has_variables() {
        imports.push_str("import process from \"node:process\";\n");
        imports.push_str(VARIABLE);
    }
    if !imports.is_empty() {
        imports.push('\n');
    }
    text.push_str(&imports);
    let _infallible = writeln!(
        text,
        "const response = await fetch({}, {{",
        JavaScript.expression(&again.url)
    );
    push(&mut text, "method", &JavaScript.literal(again.method));
    push_fields(&mut text, again);
    if let Some(payload) = payload {
        let body = match payload {
            // It would say that plain text comes.
            Payload::Text(inline) if !again.has_field("content-type") => {
                format!("new TextEncoder().encode({})", JavaScript.literal(inline))
            }
            Payload::Text(inline) => JavaScript.literal(inline),
            Payload::Bytes(bytes) => {
                format!("Buffer.from(\"{}\", \"base64\")", BASE64.encode(bytes))
            }
            Payload::File => {
                format!("await readFile({})", JavaScript.literal(&again.file()))
            }
        };
        push(&mut text, "body", &body);
    }
    push(&mut text, "redirect", "\"manual\"");
    text.push_str("});\nconsole.log(response.status);\nconsole.log(await response.text());\n");
    if again.is_cut {
        text.push_str("// not all of the body was kept\n");
    }
    text
}

fn push(text: &mut String, key: &str, value: &str) {
    let _infallible = writeln!(text, "  {key}: {value},");
}

fn sent_fields<'a>(again: &'a Again<'_>) -> Vec<(&'a str, Vec<Piece>)> {
    let mut fields = again.fields_once();
    fields.retain(|(name, _)| !REFUSED.contains(&name.to_ascii_lowercase().as_str()));
    fields
}

fn push_fields(text: &mut String, again: &Again<'_>) {
    let fields = sent_fields(again);
    if fields.is_empty() {
        return;
    }
    text.push_str("  headers: {\n");
    for (name, value) in fields {
        let (name, value) = (JavaScript.literal(name), JavaScript.value(&value));
        let _infallible = writeln!(text, "    {name}: {value},");
    }
    text.push_str("  },\n");
}
