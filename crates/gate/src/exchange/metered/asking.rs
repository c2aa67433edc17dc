//! What a request asks for: read from its body where the route says so, put to billing, and bounded by what was held.

use crate::config::{Hold, Metering};
use crate::input::{Headers, Single};
use crate::worker::{Pass, Question};
use contract::v1::{NeedMode, NeedShape, Repeat, Size, TokenShape, Tokens};
use core::fmt::Write;
use meter::Source;
use meter::request::{Asked, Edit, Unreadable, read};
use sha2::{Digest, Sha256};
use units::{Amount, EndpointId, Subject};

/// The longest `Idempotency-Key` (the draft names no bound; Stripe's is 255 characters).
const KEY_BYTES_MAX: usize = 255;

/// A question that waits for the request's body.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) subject: Subject,
    pub(super) endpoint: EndpointId,
    pub(super) mode: NeedMode,
    pub(super) allow: u32,
    /// The digest of the `Idempotency-Key`.
    pub(super) key: Option<String>,
    /// The model that the path names.
    pub(super) model: Option<String>,
    /// The path as it was asked for, with its query: what is the same request is at the same place.
    pub(super) path: String,
}

/// What was read of a request.
#[derive(Debug)]
pub(super) struct Measured {
    asked: Asked,
    pub(super) shape: TokenShape,
}

/// A change of a request's body, to be made before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyEdit {
    asked: Asked,
    edit: Edit,
}

impl BodyEdit {
    /// The body as it is to go on. `None` if nothing changes, which nobody asks for.
    #[must_use]
    pub fn apply(&self, body: &[u8]) -> Option<Vec<u8>> {
        self.asked.edited(body, &self.edit)
    }

    /// True if it makes the answer tell what it used, which the client did not ask for.
    pub(super) fn tells_usage(&self) -> bool {
        self.edit.include_usage
    }
}

/// The digest of the request's `Idempotency-Key`, if it has one.
///
/// # Errors
/// It is repeated, empty, too long or no text.
pub(super) fn key_digest(headers: &Headers) -> Result<Option<String>, ()> {
    match headers.single("idempotency-key") {
        Single::Absent => Ok(None),
        Single::One(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) && key.is_ascii() => {
            Ok(Some(hex(&[key])))
        }
        Single::One(_) | Single::Repeated => Err(()),
    }
}

/// True for what a browser asks before it asks (Fetch standard, section 4.8): who asks and by which method are said, and there
/// is no body.
pub(super) fn is_preflight(headers: &Headers, end: bool) -> bool {
    let says = |name| headers.text(name).is_some_and(|value| !value.is_empty());
    let asks = says("origin") && says("access-control-request-method");
    end && headers.text(":method") == Some("OPTIONS") && asks
}

/// Nothing, where the upstream reads of a body the very letters that are read of it here. It does not where the body is packed
/// or said to be in another charset, in which a text may hold whole fields. That matters where what is held depends on it.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn letters(metering: &Metering, headers: &Headers) -> Result<(), &'static str> {
    if metering.hold == Hold::Fixed {
        return Ok(());
    }
    if !headers.all("content-encoding").all(|it| it.eq_ignore_ascii_case(b"identity")) {
        return Err("The body is encoded.");
    }
    // Wherever the word stands, for readers do not agree on what is a parameter.
    let ours = |said: &str| {
        let said = said.split([';', ',']).next().unwrap_or_default().trim_matches([' ', '\t', '=', '"']);
        matches!(said, "utf-8" | "utf8")
    };
    let plain = |kind: &[u8]| {
        core::str::from_utf8(kind)
            .is_ok_and(|kind| kind.to_ascii_lowercase().split("charset").skip(1).all(ours))
    };
    if headers.all("content-type").all(plain) { Ok(()) } else { Err("The body is not in UTF-8.") }
}

/// The model that a path names: only Gemini's do, as in `/v1beta/models/gemini-3:generateContent`. Elsewhere a path that looks
/// so names nothing, or a client could choose by it what is priced.
///
/// # Errors
/// What is wrong with it, for people: another verb, whose answer nobody here can read; a name that the upstream may read
/// otherwise; a query that leaves parts of the answer out, its usage among them.
pub(super) fn model_in(source: Option<&Source>, path: &str) -> Result<Option<String>, &'static str> {
    if source != Some(&Source::Gemini) {
        return Ok(None);
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let known =
        |part: &str| part.is_empty() || matches!(part, "alt=sse" | "alt=json") || part.starts_with("key=");
    if !query.split('&').all(known) {
        return Err("Only alt and key are taken in the query.");
    }
    let named = path.split_once("/models/").and_then(|(_, rest)| rest.split_once(':'));
    let Some((model, verb)) = named else { return Err("The path names no model.") };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if model.is_empty() || !model.bytes().all(plain) {
        return Err("The path names no model.");
    }
    match verb {
        "generateContent" | "streamGenerateContent" => Ok(Some(model.to_owned())),
        _ => Err("Only generateContent and streamGenerateContent are taken."),
    }
}

impl Asking {
    /// The question, and what was read of the body if somebody reads it.
    ///
    /// # Errors
    /// The body cannot be read, and what is held depends on it.
    pub(super) fn put(
        self,
        metering: &Metering,
        body: &[u8],
    ) -> Result<(Question, Option<Box<Measured>>), Unreadable> {
        let Self { subject, endpoint, mode, allow, key, model, path } = self;
        let measured = match &metering.request {
            None => None,
            Some(source) => match Measured::of(source, metering, model.as_deref(), body) {
                Ok(measured) => Some(Box::new(measured)),
                Err(why) if metering.hold != Hold::Fixed => return Err(why),
                // Its price does not depend on it; the upstream may say what is wrong with it.
                Err(_) => None,
            },
        };
        let shape = match &measured {
            Some(measured) if metering.hold != Hold::Fixed => NeedShape::Tokens(measured.shape.clone()),
            Some(_) | None => NeedShape::Fixed,
        };
        let repeat = key.map(|key| {
            let parts = [endpoint.as_str().as_bytes(), b"\0", path.as_bytes(), b"\0", body];
            Box::new(Repeat { key, body: hex(&parts) })
        });
        Ok((Question::Need { subject, endpoint, mode, shape, allow, repeat }, measured))
    }
}

impl Measured {
    fn of(
        source: &Source,
        metering: &Metering,
        model: Option<&str>,
        body: &[u8],
    ) -> Result<Self, Unreadable> {
        let hold = metering.hold;
        let asked = read(source, model, metering.limit_field, body)?;
        let shape = TokenShape {
            input_max: asked.input_bytes,
            // A wish becomes a limit by the edit.
            output_max: if asked.generates { asked.output_max.or(asked.output_wish) } else { Some(0) },
            model: asked.model.clone(),
            choices: asked.choices,
            images: asked.images,
            makes: asked.makes,
            tools: asked.tools,
            open: asked.open,
            size: if hold == Hold::Estimate { Size::Estimate } else { Size::Most },
            // No field limits the tokens of an image: less would bound nothing.
            clamp: hold == Hold::MaxTokens && asked.generates && asked.makes == 0,
        };
        Ok(Self { asked, shape })
    }

    /// What has to be changed in the body before it goes on, with this pass.
    pub(super) fn edit(&self, metering: &Metering, pass: &Pass) -> Option<BodyEdit> {
        let output_max = self.limit(pass);
        let chats = metering.request == Some(Source::OpenAi) && self.asked.generates;
        // What is not charged need not be told.
        let include_usage = pass.hold.is_some() && chats && self.asked.streams && !self.asked.tells_usage;
        let wanted = output_max.is_some() || include_usage;
        let edit = Edit { output_max, include_usage };
        wanted.then(|| BodyEdit { asked: self.asked.clone(), edit })
    }

    /// The limit that the request is to have, if it is not the one that it has, in the field that the upstream heeds. What a
    /// hold pays for, where it can be lowered to that; where nothing was stated, the model's own, since whatever is reckoned
    /// of the request goes by it; and no more than that where a window pays.
    fn limit(&self, pass: &Pass) -> Option<u64> {
        if !self.asked.generates || self.shape.makes > 0 {
            return None;
        }
        let decided = pass.decided.as_ref()?;
        // Whose model is in no list was not let through on one.
        let of = |hold| decided.bounds().map(|list| list.output_for(&self.shape, hold).unwrap_or(0));
        let most = match (decided.list(), self.shape.clamp) {
            (Some(_), true) => of(pass.held)?,
            (Some(_), false) => of(Amount::MAX)?,
            (None, _) => of(Amount::MAX)?.min(decided.bounds()?.output_max(&self.shape.model)?),
        };
        match self.asked.output_max {
            Some(stated) if stated <= most => None,
            Some(_) | None => Some(most),
        }
    }

    /// What it turned out to be, for billing to price a request that nobody decided about.
    pub(super) fn afterwards(&self, tokens: Option<&Tokens>) -> NeedShape {
        let Some(tokens) = tokens else { return NeedShape::Tokens(self.shape.clone()) };
        NeedShape::Tokens(TokenShape {
            input_max: tokens.input,
            output_max: Some(tokens.output),
            model: tokens.model.clone(),
            choices: 1,
            images: 0,
            makes: tokens.images,
            tools: false,
            open: false,
            size: Size::Most,
            clamp: false,
        })
    }
}

/// SHA-256 over the parts, in lower-case hexadecimal digits.
fn hex(parts: &[&[u8]]) -> String {
    let digest = parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize();
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a string does not fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::bill::tests::{amount, list};
    use super::*;
    use crate::config::{MissingUsage, Usage};
    use meter::request::LimitField;

    #[test]
    fn a_path_may_name_the_model() {
        let gemini = |path| model_in(Some(&Source::Gemini), path);
        for path in [
            "/v1beta/models/gemini-3-pro:generateContent",
            "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse&key=tgk_1",
        ] {
            assert_eq!(gemini(path), Ok(Some("gemini-3-pro".into())), "{path}");
            assert_eq!(model_in(Some(&Source::OpenAi), path), Ok(None), "{path}");
        }
        for path in [
            "/v1/models/",
            "/v1/chat/completions",
            "/v1beta/models/gemini%2D3:generateContent",
            "/v1beta/models/gemini-3/cheap:generateContent",
            "/v1beta/models/gemini-3:batchGenerateContent",
            "/v1beta/models/gemini-3:generateContent?fields=candidates",
            "/v1beta/models/gemini-3:generateContent?%24fields=candidates",
            "/v1beta/models/gemini-3:generateContent?alt=proto",
        ] {
            assert!(gemini(path).is_err(), "{path}");
        }
        assert_eq!(model_in(Some(&Source::OpenAi), "/v1/chat/completions?x=/models/cheap"), Ok(None));
    }

    #[test]
    fn images_hold_the_tokens_of_each_and_nothing_of_it_is_lowered() {
        let (usage, request) = (Usage::Body(Source::OpenAiImages), Some(Source::OpenAiImages));
        let (hold, missing, limit_field) = (Hold::MaxTokens, MissingUsage::Counted, LimitField::MaxTokens);
        let metering = Metering { hold, usage, request, missing, limit_field };
        let body = br#"{"model":"m","prompt":"x","n":10}"#;
        let shape = Measured::of(&Source::OpenAiImages, &metering, None, body).unwrap().shape;
        assert_eq!((shape.choices, shape.makes, shape.clamp), (10, 10, false));
        let mut list = list();
        list.models[0].image = amount(1_000);
        // 33 bytes, ten answers of up to 100 tokens at four, and ten images.
        assert_eq!(list.hold(&shape), Ok(amount(33 + 10 * 100 * 4 + 10 * 1_000)));
        let chat = br#"{"model":"m","messages":[],"n":10}"#;
        let shape = Measured::of(&Source::OpenAi, &metering, None, chat).unwrap().shape;
        assert_eq!((shape.choices, shape.makes, shape.clamp), (10, 0, true));
    }

    #[test]
    fn a_key_is_one_text_or_none() {
        let of = |pairs: &[(&str, &str)]| key_digest(&pairs.iter().copied().collect());
        assert_eq!(of(&[]), Ok(None));
        let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        assert_eq!(of(&[("idempotency-key", "foo")]), Ok(Some(digest.into())));
        assert_eq!(of(&[("idempotency-key", "")]), Err(()));
        assert_eq!(of(&[("idempotency-key", "é")]), Err(()));
        assert_eq!(of(&[("idempotency-key", &"x".repeat(256))]), Err(()));
        assert_eq!(of(&[("idempotency-key", "a"), ("Idempotency-Key", "a")]), Err(()));
    }
}
