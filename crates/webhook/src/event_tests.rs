//! What is read of an event, and every way in which it is refused.

use super::*;

const EVENT: &str = r#"{"id":"evt_1","object":"event","type":"invoice.paid","livemode":true}"#;

fn read(body: &str) -> Result<Event, EventError> {
    Event::read(body.as_bytes())
}

/// [`EVENT`] with more fields.
fn with(fields: &str) -> String {
    format!("{},{fields}}}", EVENT.strip_suffix('}').unwrap())
}

/// [`EVENT`] with one text replaced.
fn but(from: &str, to: &str) -> String {
    assert!(EVENT.contains(from));
    EVENT.replace(from, to)
}

#[test]
fn a_snapshot_event_is_read() {
    let body = with(
        r#""created":1700000000,"api_version":"2031-01-01.zebra","data":{"object":{"id":"in_1","id":"x"}}"#,
    );
    let event = read(&body).unwrap();
    assert_eq!((event.id.as_str(), event.kind.as_str()), ("evt_1", "invoice.paid"));
    assert_eq!((event.livemode, event.account.as_str(), event.style), (true, "self", Style::Snapshot));
    assert_eq!(event.snapshot_event, None);
}

#[test]
fn a_thin_event_is_read() {
    let event = read(
        r#"{"context":"acct_7","created":"2026-02-03T04:05:06.789Z","id":"evt_2","livemode":false,"changes":null,
        "object":"v2.core.event","reason":{"type":"request"},"related_object":{"id":"cus_1","type":"customer"},
        "snapshot_event":"evt_1","type":"v1.customer.created"}"#,
    )
    .unwrap();
    assert_eq!((event.style, event.account.as_str(), event.livemode), (Style::Thin, "acct_7", false));
    assert_eq!(event.snapshot_event, Some(EventId::new("evt_1").unwrap()));
}

#[test]
fn the_account_comes_before_the_context_and_null_is_neither() {
    for (fields, account) in [
        (r#""account":"acct_1","context":"acct_2""#, "acct_1"),
        (r#""context":"acct_2","account":null"#, "acct_2"),
        (r#""account":null,"context":null,"snapshot_event":null"#, "self"),
    ] {
        assert_eq!(read(&with(fields)).unwrap().account, account);
    }
}

#[test]
fn only_the_top_level_counts() {
    let body = r#"{"data":{"object":{"id":"in_1","object":"invoice","type":"x","livemode":1,"account":7}},"id":"evt_1",
        "object":"event","type":"invoice.paid","livemode":false,"pending_webhooks":1,"request":{"id":null}}"#;
    assert_eq!(read(body).unwrap().id.as_str(), "evt_1");
    let hidden = r#"{"data":{"id":"evt_1"},"object":"event","type":"invoice.paid","livemode":false}"#;
    assert_eq!(read(hidden), Err(EventError::Missing("id")));
}

#[test]
fn a_field_that_identifies_appears_once() {
    for (name, again) in [
        ("id", r#""id":"evt_1""#),
        ("id", r#""\u0069d":"evt_2""#),
        ("type", r#""type":"x""#),
        ("object", r#""object":null"#),
        ("livemode", r#""livemode":true"#),
        ("account", r#""account":null,"account":null"#),
        ("context", r#""context":"a","context":"b""#),
    ] {
        assert_eq!(read(&with(again)), Err(EventError::Repeated(name)), "{again}");
    }
    assert!(read(&with(r#""data":1,"data":2"#)).is_ok(), "what is not read may do as it likes");
}

#[test]
fn nothing_is_guessed() {
    let long = format!("evt_{}", "x".repeat(252));
    for (body, why) in [
        (but(r#""id":"evt_1","#, ""), EventError::Missing("id")),
        (but(r#""evt_1""#, "null"), EventError::Missing("id")),
        (but(r#""evt_1""#, "1"), EventError::WrongType("id")),
        (but(r#""evt_1""#, "-1.5e3"), EventError::WrongType("id")),
        (but(r#""evt_1""#, r#"["evt_1"]"#), EventError::WrongType("id")),
        (but(r#""evt_1""#, r#"{"id":"evt_1"}"#), EventError::WrongType("id")),
        (but("evt_1", ""), EventError::BadText("id", IdError::Empty)),
        (but("evt_1", &long), EventError::BadText("id", IdError::TooLong)),
        (but("evt_1", "evt 1"), EventError::BadText("id", IdError::NotPrintable)),
        (but("evt_1", r"evt\n1"), EventError::BadText("id", IdError::NotPrintable)),
        (but("evt_1", "évt_1"), EventError::BadText("id", IdError::NotPrintable)),
        (but(r#","type":"invoice.paid""#, ""), EventError::Missing("type")),
        (
            but("invoice.paid", r"a\r\nx-tollgate-account: b"),
            EventError::BadText("type", IdError::NotPrintable),
        ),
        (but(r#","livemode":true"#, ""), EventError::Missing("livemode")),
        (but("true", r#""true""#), EventError::WrongType("livemode")),
        (but("true", "1"), EventError::WrongType("livemode")),
        (but(r#""object":"event","#, ""), EventError::Missing("object")),
        (but(r#""event""#, r#""Event""#), EventError::NotAnEvent),
        (but(r#""event""#, r#""invoice""#), EventError::NotAnEvent),
        (but(r#""event""#, "true"), EventError::WrongType("object")),
        (with(r#""account":7"#), EventError::WrongType("account")),
        (with(r#""account":"""#), EventError::BadText("account", IdError::Empty)),
    ] {
        assert_eq!(read(&body), Err(why), "{body}");
    }
    assert!(read(&but("evt_1", long.strip_suffix('x').unwrap())).is_ok());
}

#[test]
fn what_is_not_an_object_is_refused() {
    for (body, why) in [
        ("", EventError::NotJson),
        (" ", EventError::NotJson),
        ("\u{feff}{}", EventError::NotJson),
        ("{", EventError::NotJson),
        ("{}}", EventError::NotJson),
        ("{\"a\":1,}", EventError::NotJson),
        ("{\"a\":\"\0\"}", EventError::NotJson),
        ("nul", EventError::NotJson),
        ("null", EventError::NotAnObject),
        ("[\"evt_1\",\"event\",\"x\",true]", EventError::NotAnObject),
        ("7", EventError::NotAnObject),
        ("{}", EventError::Missing("object")),
    ] {
        assert_eq!(read(body), Err(why), "{body:?}");
    }
    assert_eq!(Event::read(b"{\"id\":\"evt_\xff\"}"), Err(EventError::NotUtf8));
    assert_eq!(Event::read(&[EVENT.as_bytes(), EVENT.as_bytes()].concat()), Err(EventError::NotJson));
    assert_eq!(
        Event::read(&with("\"data\":\"\u{e9}\"").replace('é', "\u{1}").into_bytes()),
        Err(EventError::NotJson)
    );
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |n: usize| with(&format!(r#""data":{}{}"#, "[".repeat(n), "]".repeat(n)));
    assert!(read(&nested(63)).is_ok(), "63 and the event itself are 64");
    assert_eq!(read(&nested(64)), Err(EventError::TooDeep));
    assert_eq!(read(&nested(1_000_000)), Err(EventError::TooDeep));
    assert_eq!(read(&"{\"a\":".repeat(10_000)), Err(EventError::TooDeep));
    assert_eq!(read(&"[".repeat(10_000)), Err(EventError::TooDeep));
    assert!(
        read(&with(&format!(r#""data":"{}""#, r#"[{\"\\"#.repeat(200_000)))).is_ok(),
        "brackets in a text"
    );
    assert!(read(&with(&format!(r#""data":[{}{{}}]"#, "{},".repeat(100_000)))).is_ok(), "wide is not deep");
}
