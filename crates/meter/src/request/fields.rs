//! The fields that are understood, place by place.

use super::scan::Shape;

/// A field, whatever each provider calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    Model,
    /// A list of messages or items.
    Messages,
    /// Parts without a message around them.
    System,
    Prompt,
    /// What embeddings are made of.
    Embedded,
    Limit,
    /// The other field that states a limit.
    OtherLimit,
    Choices,
    BestOf,
    Stream,
    StreamOptions,
    IncludeUsage,
    Config,
    Tools,
    Functions,
    /// What refers to input that is not in the body.
    Elsewhere,
    /// What outranks a limit at the servers that know it, or names another model, and is refused.
    Foreign,
    /// An object that some servers take further fields from.
    Extra,
    /// What the provider is to do with the messages before the model reads them.
    Rewriting,
    /// What kind of thing it is.
    Kind,
    /// A text or a list of parts.
    Content,
    /// An image, as a text or an object.
    Image,
    /// Gemini's data with its type.
    Inline,
    /// An object that may hold parts.
    Answer,
    Url,
    Data,
    /// What changes nothing.
    Plain,
    #[default]
    Unknown,
}

/// An object or array that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Options,
    Config,
    /// An object that may hold fields of particular servers.
    Extra,
    Rewriting,
    Rewrites,
    Rewrite,
    Messages,
    Message,
    Parts,
    Part,
    /// The object that holds an image, or whatever its type says.
    Image,
    /// The same for Gemini.
    Inline,
    Answer,
    Tools,
    Tool,
    Functions,
    Prompts,
    /// Anything else, with all that is in it.
    Other,
}

type Fields = &'static [(&'static str, Key)];

/// Beside OpenAI's own: what could outrank the limit; by what LiteLLM (`fallbacks`) and OpenRouter (`models`, `route`) let
/// another model answer; and by what OpenRouter (`plugins`) and vLLM (`chat_template`) read more than the body.
const OPENAI: Fields = &[
    ("model", Key::Model),
    ("messages", Key::Messages),
    ("prompt", Key::Prompt),
    ("input", Key::Embedded),
    ("max_tokens", Key::Limit),
    ("max_completion_tokens", Key::OtherLimit),
    ("n", Key::Choices),
    ("best_of", Key::BestOf),
    ("stream", Key::Stream),
    ("stream_options", Key::StreamOptions),
    ("tools", Key::Tools),
    ("functions", Key::Functions),
    ("web_search_options", Key::Elsewhere),
    ("plugins", Key::Elsewhere),
    ("chat_template", Key::Elsewhere),
    ("n_predict", Key::Foreign),
    ("num_predict", Key::Foreign),
    ("max_new_tokens", Key::Foreign),
    ("max_length", Key::Foreign),
    ("max_gen_len", Key::Foreign),
    ("n_cmpl", Key::Foreign),
    ("prompt_embeds", Key::Foreign),
    ("fallbacks", Key::Foreign),
    ("mock_testing_fallbacks", Key::Foreign),
    ("models", Key::Foreign),
    ("route", Key::Foreign),
    ("options", Key::Extra),
    ("extra_body", Key::Extra),
    ("parameters", Key::Extra),
    ("sampling_params", Key::Extra),
];

/// What could outrank the limit, the number of answers or the model of the object around it: Ollama's `options.num_predict`,
/// `parameters.max_new_tokens` of Text Generation Inference, and whatever a proxy takes out of `extra_body`.
const EXTRA: Fields = &[
    ("n_predict", Key::Foreign),
    ("num_predict", Key::Foreign),
    ("max_new_tokens", Key::Foreign),
    ("max_length", Key::Foreign),
    ("max_gen_len", Key::Foreign),
    ("max_tokens", Key::Foreign),
    ("max_completion_tokens", Key::Foreign),
    ("n", Key::Foreign),
    ("n_cmpl", Key::Foreign),
    ("best_of", Key::Foreign),
    ("prompt_embeds", Key::Foreign),
    ("fallbacks", Key::Foreign),
    ("mock_testing_fallbacks", Key::Foreign),
    ("models", Key::Foreign),
    ("route", Key::Foreign),
    ("plugins", Key::Elsewhere),
    ("chat_template", Key::Elsewhere),
    ("options", Key::Extra),
    ("extra_body", Key::Extra),
    ("parameters", Key::Extra),
    ("sampling_params", Key::Extra),
];

const IMAGES: Fields = &[
    ("model", Key::Model),
    ("n", Key::Choices),
    ("stream", Key::Stream),
    ("fallbacks", Key::Foreign),
    ("mock_testing_fallbacks", Key::Foreign),
    ("models", Key::Foreign),
    ("route", Key::Foreign),
];

const RESPONSES: Fields = &[
    ("model", Key::Model),
    ("input", Key::Messages),
    ("max_output_tokens", Key::Limit),
    ("stream", Key::Stream),
    ("tools", Key::Tools),
    ("previous_response_id", Key::Elsewhere),
    ("conversation", Key::Elsewhere),
    ("prompt", Key::Elsewhere),
    ("plugins", Key::Elsewhere),
    ("fallbacks", Key::Foreign),
    ("mock_testing_fallbacks", Key::Foreign),
    ("models", Key::Foreign),
    ("route", Key::Foreign),
];

const ANTHROPIC: Fields = &[
    ("model", Key::Model),
    ("messages", Key::Messages),
    ("system", Key::System),
    ("max_tokens", Key::Limit),
    ("stream", Key::Stream),
    ("tools", Key::Tools),
    ("container", Key::Elsewhere),
    ("mcp_servers", Key::Elsewhere),
    ("context_management", Key::Rewriting),
    ("fallbacks", Key::Foreign),
];

/// Each in both spellings of protobuf's JSON (protobuf.dev/programming-guides/json).
const GEMINI: Fields = &[
    ("model", Key::Model),
    ("contents", Key::Messages),
    ("systemInstruction", Key::System),
    ("system_instruction", Key::System),
    ("content", Key::Embedded),
    ("requests", Key::Embedded),
    ("generationConfig", Key::Config),
    ("generation_config", Key::Config),
    ("tools", Key::Tools),
    ("cachedContent", Key::Elsewhere),
    ("cached_content", Key::Elsewhere),
];

const GEMINI_CONFIG: Fields = &[
    ("maxOutputTokens", Key::Limit),
    ("max_output_tokens", Key::Limit),
    ("candidateCount", Key::Choices),
    ("candidate_count", Key::Choices),
];

const GEMINI_PART: Fields = &[
    ("inlineData", Key::Inline),
    ("inline_data", Key::Inline),
    ("functionResponse", Key::Answer),
    ("function_response", Key::Answer),
    ("text", Key::Plain),
    ("thought", Key::Plain),
    ("thoughtSignature", Key::Plain),
    ("thought_signature", Key::Plain),
    ("functionCall", Key::Plain),
    ("function_call", Key::Plain),
    ("executableCode", Key::Plain),
    ("executable_code", Key::Plain),
    ("codeExecutionResult", Key::Plain),
    ("code_execution_result", Key::Plain),
];

const GEMINI_TOOL: Fields = &[("functionDeclarations", Key::Plain), ("function_declarations", Key::Plain)];

/// Does this key name that field to a reader who does not mind the case? Such readers (Go's `encoding/json`) also take
/// U+017F, the long s, for an s, and U+212A, the sign of Kelvin, for a k.
pub(super) fn is_same(name: &str, key: &[u8]) -> bool {
    if key.is_ascii() {
        return name.as_bytes().eq_ignore_ascii_case(key);
    }
    let folded = |c: char| match c {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    let names = name.chars().map(|c| c.to_ascii_lowercase());
    core::str::from_utf8(key).is_ok_and(|key| key.chars().map(folded).eq(names))
}

/// The fields that are understood in such a place.
pub(super) const fn fields(shape: Shape, place: Place) -> Fields {
    match (place, shape) {
        (Place::Top, Shape::OpenAi) => OPENAI,
        (Place::Top, Shape::Images) => IMAGES,
        (Place::Top, Shape::Responses) => RESPONSES,
        (Place::Top, Shape::Anthropic) => ANTHROPIC,
        (Place::Top, Shape::Gemini) => GEMINI,
        (Place::Top, Shape::Any) => &[("model", Key::Model), ("stream", Key::Stream)],
        (Place::Options, _) => &[("include_usage", Key::IncludeUsage)],
        (Place::Config, _) => GEMINI_CONFIG,
        (Place::Extra, _) => EXTRA,
        // What was said aloud before is referred to by its id.
        (Place::Message, Shape::OpenAi) => &[("content", Key::Content), ("audio", Key::Elsewhere)],
        (Place::Message, Shape::Responses) => {
            &[("type", Key::Kind), ("content", Key::Content), ("output", Key::Content)]
        }
        (Place::Message | Place::Answer, Shape::Gemini) => &[("parts", Key::Content)],
        (Place::Message, _) => &[("content", Key::Content)],
        (Place::Part, Shape::Gemini) => GEMINI_PART,
        (Place::Part, Shape::Anthropic) => {
            &[("type", Key::Kind), ("source", Key::Image), ("content", Key::Content)]
        }
        (Place::Part, _) => &[("type", Key::Kind), ("image_url", Key::Image)],
        (Place::Image, Shape::Anthropic) => {
            &[("type", Key::Kind), ("data", Key::Data), ("content", Key::Content)]
        }
        (Place::Image, _) => &[("url", Key::Url)],
        (Place::Inline, _) => &[("mimeType", Key::Kind), ("mime_type", Key::Kind), ("data", Key::Data)],
        (Place::Tool, Shape::Gemini) => GEMINI_TOOL,
        (Place::Rewriting, _) => &[("edits", Key::Rewriting)],
        (Place::Tool | Place::Rewrite, _) => &[("type", Key::Kind)],
        _ => &[],
    }
}

/// Where a container is that stands at a field, or in a list.
pub(super) const fn below(place: Place, key: Key, shape: Shape, object: bool) -> Place {
    match (place, key, object) {
        // Google's servers take a single thing for a list of one.
        (Place::Top, Key::Messages, true) if matches!(shape, Shape::Gemini) => Place::Message,
        (Place::Top, Key::Tools, true) if matches!(shape, Shape::Gemini) => Place::Tool,
        (Place::Message | Place::Answer, Key::Content, true) if matches!(shape, Shape::Gemini) => Place::Part,
        (Place::Top, Key::Messages, false) => Place::Messages,
        // A list of parts, and for Gemini a message.
        (Place::Top, Key::System, true) if matches!(shape, Shape::Gemini) => Place::Message,
        (Place::Top, Key::System, false) => Place::Parts,
        (Place::Top, Key::Prompt, false) => Place::Prompts,
        (Place::Top, Key::StreamOptions, true) => Place::Options,
        (Place::Top, Key::Config, true) => Place::Config,
        (Place::Top | Place::Extra, Key::Extra, true) => Place::Extra,
        (Place::Top, Key::Tools, false) => Place::Tools,
        (Place::Top, Key::Functions, false) => Place::Functions,
        (Place::Top, Key::Rewriting, true) => Place::Rewriting,
        (Place::Rewriting, Key::Rewriting, false) => Place::Rewrites,
        (Place::Rewrites, _, true) => Place::Rewrite,
        (Place::Messages, _, true) => Place::Message,
        (Place::Message | Place::Part | Place::Image | Place::Answer, Key::Content, false) => Place::Parts,
        (Place::Parts, _, true) => Place::Part,
        (Place::Part, Key::Image, true) => Place::Image,
        (Place::Part, Key::Inline, true) => Place::Inline,
        (Place::Part, Key::Answer, true) => Place::Answer,
        (Place::Tools, _, true) => Place::Tool,
        _ => Place::Other,
    }
}
