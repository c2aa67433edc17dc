//! Whatever comes, in whatever order, the module does not trap: a trap takes every stream of its worker with it.

use crate::priced::{self, EVENTS, JSON, RICH};
use crate::support::{CHAT, CHAT_BODY, ai, assert_no_bug, billing, calls, delivery, event, pays, webhook};
use host::{Answer, Envoy, Failure, NONE, Stream, Vm, headers};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};

const NOT_TEXT: &[u8] = b"\xa1\xb1\xff\x00\x80";

type Fields = Vec<(String, Vec<u8>)>;

/// A role's worker, with headers and a body that it would let pass.
type Role = (Envoy, Vm, Fields, Vec<u8>);

fn roles() -> Result<[Role; 2], Failure> {
    let (webhooks, deliverer) = webhook()?;
    let (metering, meter) = ai()?;
    let body = event("evt_1", 400);
    let delivered = headers(&delivery(&webhooks, "app", &body));
    Ok([(webhooks, deliverer, delivered, body), (metering, meter, headers(&CHAT), CHAT_BODY.into())])
}

/// Lets a request run its course, whatever it is, and its worker settle.
fn play(vm: &Vm, stream: &Stream, fields: &Fields, body: &[u8]) -> Result<(), Failure> {
    stream.request(fields, body)?;
    billing(vm, &pays)?;
    if stream.passed() {
        stream.response(200, "{}")?;
    }
    stream.close(0)?;
    billing(vm, &pays).map(drop)
}

/// Whatever came before, the same worker serves an honest request.
fn serves(envoy: &Envoy, vm: &Vm, fields: &Fields) -> Result<(), Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (fields, body) = if fields.iter().any(|(name, _)| name == "stripe-signature") {
        let body = event(&format!("evt_honest_{}", COUNT.fetch_add(1, Ordering::Relaxed)), 400);
        (headers(&delivery(envoy, "app", &body)), body)
    } else {
        (headers(&CHAT), CHAT_BODY.into())
    };
    let stream = vm.stream()?;
    stream.request(&fields, &body)?;
    for _ in 0..20 {
        billing(vm, &pays)?;
        vm.pass(100)?;
    }
    assert!(stream.passed(), "{:?}", stream.reply());
    stream.response(200, "{}")?;
    stream.close(0)?;
    billing(vm, &pays)?;
    assert_no_bug(envoy);
    Ok(())
}

#[test]
fn a_log_may_be_all_that_ever_comes() -> Result<(), Failure> {
    for (envoy, vm, fields, _) in roles()? {
        for code in [None, Some(0), Some(400), Some(u64::MAX)] {
            for flags in [0, 1, u64::MAX] {
                vm.stream()?.close_as(code, flags)?;
            }
        }
        assert!(calls(&vm)?.is_empty());
        serves(&envoy, &vm, &fields)?;
    }
    Ok(())
}

#[test]
fn every_header_may_hold_bytes_that_are_no_text() -> Result<(), Failure> {
    for (envoy, vm, fields, body) in roles()? {
        for n in 0..fields.len() {
            let mut fields = fields.clone();
            fields[n].1 = NOT_TEXT.to_vec();
            play(&vm, &vm.stream()?, &fields, &body)?;
        }
        for name in ["user-agent", "x-tollgate-account", "content-length", "upgrade", "x-api-key", "origin"] {
            let mut fields = fields.clone();
            fields.push((name.to_owned(), NOT_TEXT.to_vec()));
            play(&vm, &vm.stream()?, &fields, &body)?;
        }
        let all: Fields = fields.iter().map(|(name, _)| (name.clone(), NOT_TEXT.to_vec())).collect();
        play(&vm, &vm.stream()?, &all, NOT_TEXT)?;
        serves(&envoy, &vm, &fields)?;
    }
    Ok(())
}

#[test]
fn answers_too_may_hold_bytes_that_are_no_text() -> Result<(), Failure> {
    for (envoy, vm, fields, body) in roles()? {
        for status in ["200", "", "abc", "-1", "99999999999999999999"] {
            let stream = vm.stream()?;
            stream.request(&fields, &body)?;
            billing(&vm, &pays)?;
            if stream.passed() {
                stream.response_headers(
                    &[(":status", status.as_bytes()), ("x-tollgate-charge", NOT_TEXT)],
                    false,
                )?;
                stream.response_body(NOT_TEXT, true)?;
            }
            stream.close(0)?;
            billing(&vm, &pays)?;
        }
        let stream = vm.stream()?;
        stream.request(&fields, &body)?;
        for call in calls(&vm)? {
            vm.answer(&call, Answer::json(200, NOT_TEXT).header("x-any", NOT_TEXT))?;
        }
        serves(&envoy, &vm, &fields)?;
    }
    Ok(())
}

#[test]
fn there_may_be_no_headers_or_two_hundred_or_enormous_ones() -> Result<(), Failure> {
    for (envoy, vm, fields, body) in roles()? {
        play(&vm, &vm.stream()?, &Vec::new(), &body)?;
        let mut many = fields.clone();
        many.extend((0..200).map(|n| (format!("x-tollgate-{n}"), vec![b'v'; 100])));
        play(&vm, &vm.stream()?, &many, &body)?;
        for n in 0..fields.len() {
            let mut doubled = fields.clone();
            doubled.push(fields[n].clone());
            play(&vm, &vm.stream()?, &doubled, &body)?;
            let mut absent = fields.clone();
            absent.remove(n);
            play(&vm, &vm.stream()?, &absent, &body)?;
            for value in [
                vec![],
                vec![b','; 60_000],
                b"18446744073709551616".to_vec(),
                b"-1".to_vec(),
                b"../../%00".to_vec(),
            ] {
                let mut absurd = fields.clone();
                absurd[n].1 = value;
                play(&vm, &vm.stream()?, &absurd, &body)?;
            }
        }
        serves(&envoy, &vm, &fields)?;
    }
    Ok(())
}

#[test]
fn bodies_may_be_absurd() -> Result<(), Failure> {
    let deep = format!(r#"{{"id":{}"#, "[".repeat(100_000));
    let bodies: [&[u8]; 8] = [
        b"null",
        b"{}",
        b"{\"id\":1}",
        br#"{"id":"evt_1","object":"event","type":"\ud800","livemode":false}"#,
        br#"{"id":"","object":"event","type":"","livemode":"no"}"#,
        br#"{"id":"evt_1","id":"evt_2","object":"event","type":"a","livemode":false}"#,
        NOT_TEXT,
        deep.as_bytes(),
    ];
    let (envoy, vm) = webhook()?;
    for body in bodies {
        let stream = vm.stream()?;
        play(&vm, &stream, &headers(&delivery(&envoy, "stripe", body)), body)?;
        assert_eq!(stream.reply().map(|reply| reply.status), Some(400), "{}", body.len());
        serves(&envoy, &vm, &headers(&delivery(&envoy, "app", body)))?;
    }
    // F21: as large as it may be, in one text.
    let large = event("evt_large", 1024 * 1024);
    assert!(large.len() > 1024 * 1023 && large.len() <= 1024 * 1024, "{}", large.len());
    let stream = vm.stream()?;
    play(&vm, &stream, &headers(&delivery(&envoy, "stripe", &large)), &large)?;
    assert!(stream.passed());
    assert_no_bug(&envoy);
    Ok(())
}

/// What a client says after the body changes nothing of what was said, checked and priced before it.
#[test]
fn trailers_may_pretend_to_be_headers() -> Result<(), Failure> {
    let trailers: [(&str, &[u8]); 8] = [
        (":method", b"GET"),
        (":path", b"/admin"),
        ("x-tollgate-account", b"mallory"),
        ("x-tollgate-event-id", b"evt_forged"),
        ("stripe-signature", b"t=1,v1=0"),
        ("authorization", b"Bearer mallory"),
        ("content-length", b"0"),
        ("x-bytes", NOT_TEXT),
    ];
    for (envoy, vm, fields, body) in roles()? {
        let stream = vm.stream()?;
        stream.request_headers(&fields, false)?;
        stream.request_body(&body, false)?;
        stream.request_trailers(&trailers)?;
        billing(&vm, &pays)?;
        assert!(stream.passed());
        for (name, value) in [("x-tollgate-account", "alice"), ("x-tollgate-event-id", "evt_1")] {
            let sent = stream.forwarded_header(name);
            assert!(sent.is_empty() || sent == value, "{name}: {sent}");
        }
        stream.response_headers(&[(":status", "200")], false)?;
        stream.response_trailers(&trailers)?;
        stream.close(0)?;
        billing(&vm, &pays)?;
        serves(&envoy, &vm, &fields)?;
    }
    Ok(())
}

#[test]
fn a_stream_may_end_after_any_step() -> Result<(), Failure> {
    for (envoy, vm, fields, body) in roles()? {
        for steps in 0..7 {
            for flags in [0, 1 << 14, u64::MAX] {
                let stream = vm.stream()?;
                let mut left = steps;
                let mut on = || {
                    left -= 1;
                    left >= 0
                };
                if on() {
                    stream.request_headers(&fields, false)?;
                }
                if on() {
                    stream.request_body(&body, false)?;
                }
                if on() {
                    stream.request_trailers(NONE)?;
                }
                if on() {
                    vm.settle()?;
                }
                if on() {
                    billing(&vm, &pays)?;
                }
                if on() && stream.passed() {
                    stream.response_headers(&[(":status", "200")], false)?;
                }
                stream.close(flags)?;
                vm.pass(1_000)?;
                billing(&vm, &pays)?;
            }
        }
        serves(&envoy, &vm, &fields)?;
    }
    Ok(())
}

#[test]
fn shared_memory_may_hold_rubbish() -> Result<(), Failure> {
    for rubbish in [b"".as_slice(), b"\0", NOT_TEXT, &[0xff; 4096], &[0; 65_536]] {
        for (envoy, vm, fields, body) in roles()? {
            play(&vm, &vm.stream()?, &fields, &body)?;
            for key in envoy.shared().keys() {
                envoy.set_shared(key, rubbish);
            }
            for _ in 0..3 {
                play(&vm, &vm.stream()?, &fields, &body)?;
                vm.pass(1_000)?;
            }
            serves(&envoy, &vm, &fields)?;
        }
    }
    Ok(())
}

#[test]
fn clocks_may_jump() -> Result<(), Failure> {
    for (envoy, vm, fields, body) in roles()? {
        for ms in [0, 1, 4_102_444_800_000, 9_999_999_999_999, 1_000, 18_000_000_000_000] {
            envoy.set_wall_ms(ms);
            // The monotonic one leaps only forwards: a machine that slept, or a process that was stopped.
            envoy.advance(ms % 7 * 3_600_000);
            let stream = vm.stream()?;
            stream.request(&fields, &body)?;
            vm.pass(250)?;
            billing(&vm, &pays)?;
            if stream.passed() {
                stream.response(200, "{}")?;
            }
            stream.close(0)?;
            billing(&vm, &pays)?;
        }
        serves(&envoy, &vm, &fields)?;
    }
    Ok(())
}

/// Answers whose usage cannot be what they say it is: the request is charged something, and the next one served.
#[test]
fn usage_may_be_anything() -> Result<(), Failure> {
    let (envoy, vm) = priced::priced()?;
    let numbers = [
        "0",
        "-0",
        "-1",
        "1.5",
        "1e3",
        "1e400",
        "-1e400",
        "9007199254740991",
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "00",
        "+1",
        "0x10",
        "NaN",
        "null",
        "true",
        "\"7\"",
        "\"\"",
        "[7]",
        "{}",
        "{\"value\":7}",
        "7,\"completion_tokens\":9",
    ];
    let asked = priced::chat(&json!({"max_tokens": 50, "stream": true}));
    let most = priced::hold_of(&asked, 50);
    for number in numbers {
        for fields in ["\"prompt_tokens\":N,\"completion_tokens\":N", "\"completion_tokens\":N"] {
            let usage = format!("{{{}}}", fields.replace('N', number));
            let document = priced::completion(&json!("USAGE")).replace("\"USAGE\"", &usage);
            let stream_of = priced::events(2, &json!("USAGE")).replace("\"USAGE\"", &usage);
            for (kind, text) in [(JSON, document), (EVENTS, stream_of)] {
                let stream = priced::ask(&vm, "/v1/chat/completions", &asked, RICH)?;
                priced::answer(&stream, &kind, [text])?;
                let record = priced::end(&vm, &stream, 0)?;
                let charged = priced::charged(&record);
                let said_nothing = number.starts_with('0') || number == "-0";
                assert!((1..=most).contains(&charged) || (charged == 0 && said_nothing), "{usage}: {record}");
            }
        }
    }
    assert_no_bug(&envoy);
    Ok(())
}

#[test]
fn an_answer_may_be_one_line_of_ten_megabytes_or_nested_without_end() -> Result<(), Failure> {
    const PIECE: usize = 64 * 1024;
    let (envoy, vm) = priced::priced()?;
    let asked = priced::chat(&json!({"max_tokens": 50, "stream": true}));
    let whole = priced::hold_of(&asked, 50);
    let fills: [(&str, &[u8]); 5] =
        [("data: ", b"x"), ("data: ", b"data: "), ("data: {\"a\":\"", b"\\"), ("data: ", b"["), ("", b"\n")];
    for (begin, fill) in fills {
        let stream = priced::ask(&vm, "/v1/chat/completions", &asked, RICH)?;
        stream.response_headers(&[(":status", "200"), EVENTS[0]], false)?;
        stream.response_body(begin, false)?;
        let piece: Vec<u8> = fill.iter().copied().cycle().take(PIECE).collect();
        // Where each byte is a line of its own, the interpreter takes its time.
        let megabytes = if fill == b"x" { 10 } else { 2 };
        let pieces = megabytes * 1024 * 1024 / PIECE;
        for _ in 0..pieces {
            stream.response_body(&piece, false)?;
        }
        stream.response_body("", true)?;
        assert_eq!(stream.answered_body().len(), begin.len() + pieces * PIECE, "nothing is kept back");
        let record = priced::end(&vm, &stream, 0)?;
        assert!((1..=whole).contains(&priced::charged(&record)), "{begin:?}: {record}");
    }
    for open in ["[", "{\"a\":"] {
        let stream = priced::ask(&vm, "/v1/chat/completions", &asked, RICH)?;
        let deep = format!("{{\"usage\":{}", open.repeat(300_000));
        priced::answer(&stream, &JSON, deep.as_bytes().chunks(PIECE))?;
        assert_eq!(priced::charged(&priced::end(&vm, &stream, 0)?), whole, "nothing of it could be read");
    }
    let stream = priced::ask(&vm, "/v1/chat/completions", &asked, RICH)?;
    priced::answer(&stream, &JSON, [priced::completion(&priced::usage(7, 2))])?;
    assert_eq!(priced::charged(&priced::end(&vm, &stream, 0)?), 15);
    assert_no_bug(&envoy);
    Ok(())
}
