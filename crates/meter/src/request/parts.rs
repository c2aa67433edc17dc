//! What the parts of a message are: text that the body bounds, an image, or something larger than it looks.

use super::fields::Place;
use super::scan::Shape;

/// What a part, an item or a tool is by its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// No type is given.
    #[default]
    None,
    /// Its bytes bound it.
    Plain,
    /// Counted as an image.
    Image,
    /// Bounded if what it holds is text.
    Document,
    /// Not bounded by its bytes, or not known.
    Open,
    /// What it uses is bounded by nothing that is held, or is another model's.
    Unbounded,
}

/// The kind by the type that is given at such a place.
pub(super) fn kind(shape: Shape, place: Place, text: &[u8]) -> Kind {
    let text = core::str::from_utf8(text).unwrap_or_default();
    match (place, shape) {
        (Place::Tool, Shape::Anthropic) => tool(text),
        // What is cleared is not read. What is summed up (`compact_`) is read once more, and written, beside the answer.
        (Place::Rewrite, _) if text.starts_with("clear_") => Kind::Plain,
        (Place::Rewrite, _) => Kind::Unbounded,
        (Place::Tool, _) => plain(matches!(text, "function" | "custom")),
        // Items whose content is in the body; the others refer to what a tool did at the provider.
        (Place::Message, _) => plain(matches!(
            text,
            "message"
                | "function_call"
                | "function_call_output"
                | "custom_tool_call"
                | "custom_tool_call_output"
                | "reasoning"
        )),
        // What a document of Anthropic's holds.
        (Place::Image, _) => plain(matches!(text, "text" | "content")),
        (Place::Inline, _) => match text.get(..6) {
            Some(start) if start.eq_ignore_ascii_case("image/") => Kind::Image,
            _ => Kind::Open,
        },
        (_, Shape::Anthropic) => match text {
            "image" => Kind::Image,
            "document" => Kind::Document,
            "text" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result" | "search_result" => {
                Kind::Plain
            }
            _ => Kind::Open,
        },
        (_, Shape::Responses) => match text {
            "input_image" => Kind::Image,
            "input_text" | "output_text" | "text" | "refusal" | "summary_text" | "reasoning_text" => {
                Kind::Plain
            }
            "input_audio" => Kind::Plain,
            _ => Kind::Open,
        },
        _ => match text {
            "image_url" => Kind::Image,
            "text" | "refusal" | "input_audio" => Kind::Plain,
            _ => Kind::Open,
        },
    }
}

const fn plain(is_plain: bool) -> Kind {
    if is_plain { Kind::Plain } else { Kind::Open }
}

/// Anthropic's tools have a type with a date. These run at the client; the others bring in what nobody bounds, and one asks
/// another model, whose tokens are stated apart.
fn tool(text: &str) -> Kind {
    if text.starts_with("advisor_") {
        return Kind::Unbounded;
    }
    let at_client = ["bash_", "text_editor_", "computer_", "memory_"];
    plain(text == "custom" || at_client.iter().any(|start| text.starts_with(start)))
}
