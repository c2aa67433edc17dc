//! The places in which usage may stand, and in which the client may hear of its charge, beside the body of the answer.

use crate::rig::{Asked, Purse, chat, options};
use serde_json::{Value, json};
use stage::harness::{Options, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn usage_may_stand_in_headers_or_where_a_pointer_says() {
    let usage = |usage: Value| {
        move |rule: &mut Value| {
            rule["usage"] = usage.clone();
            rule["hold"] = json!("fixed");
        }
    };
    let headers = json!({ "header": { "input": "x-in", "output": "x-out", "model": "x-model" } });
    let pointers = json!({ "json_pointer": { "output": "/usage/total_tokens", "model": "/model" } });
    let options: Options =
        options().rule("/v1/chat/completions", usage(headers)).rule("/v1/completions", usage(pointers));
    let stage = Stage::start(options);
    let mut hugo = Purse::of(&stage, "hugo").await;
    let script = "header.x-in=30;header.x-out=2;header.x-model=scripted";
    let answer = stage.gateway.send(chat(&stage, &hugo.key, script).call()).await;
    assert_eq!(
        answer.header("x-tollgate-charged"),
        "0.00038",
        "known before the answer went on: {:?}",
        answer.headers
    );
    hugo.paid(&stage, 380, "stated").await;
    let asked =
        Asked::new(&stage, "/v1/completions", &hugo.key, "input=20;tokens=7", &json!({ "prompt": "hello" }));
    assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
    hugo.paid(&stage, 27 * 40, "stated").await;
    // Nothing where it should stand: all that is held, which is what the catalog says for requests that nobody sizes.
    assert_eq!(stage.gateway.send(chat(&stage, &hugo.key, "").call()).await.status, 200);
    hugo.paid(&stage, 50_000, "hold").await;
    stage.finish();
}

/// The upstream is spoken to by HTTP/2, over which it can send trailers.
fn by_http2(options: Options) -> Options {
    options.edit(|file| {
        let clusters = file.at("/static_resources/clusters")?.as_array_mut().into_iter().flatten();
        for cluster in clusters.filter(|cluster| cluster["name"] == "upstream") {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            });
        }
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_bring_the_charge_where_an_upstream_sends_any() {
    let stage = Stage::start(by_http2(options()));
    let mut jane = Purse::of(&stage, "jane").await;
    for stream in [false, true] {
        let script = "input=20;tokens=7;trailers";
        let asked = chat(&stage, &jane.key, script).with(&json!({ "stream": stream }));
        let answer = stage.gateway.send(asked.call().http2()).await;
        assert_eq!(answer.status, 200);
        assert!(!stream || answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        assert_eq!(answer.trailers["x-tollgate-charged"], "0.00048", "{:?}", answer.trailers);
        jane.paid(&stage, 480, "stated").await;
    }
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_own_reader_may_say_it() {
    let manager = json!({
        "name": "envoy.filters.http.ai_protocol_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager",
            "response_handling": {
                "token_usage": { "include_unconfigured_routes": true, "default_llm_protocol": "OPENAI_CHAT_COMPLETIONS" },
            },
        },
    });
    let options =
        options().filter_before("envoy.filters.http.router", manager).rule("/v1/chat/completions", |rule| {
            rule["usage"] = json!("envoy_ai");
            rule["request"] = json!("openai");
        });
    let stage = Stage::start(options);
    let mut kate = Purse::of(&stage, "kate").await;
    for stream in [false, true] {
        let asked =
            chat(&stage, &kate.key, "input=20;tokens=7").with(&json!({ "stream": stream, "max_tokens": 50 }));
        let asked =
            if stream { asked.with(&json!({ "stream_options": { "include_usage": true } })) } else { asked };
        assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
        kate.paid(&stage, 480, "stated").await;
    }
    let asked = chat(&stage, &kate.key, "no_usage").with(&json!({ "max_tokens": 50 }));
    assert_eq!(stage.gateway.send(asked.call()).await.status, 200);
    kate.paid(&stage, asked.bytes() * 10 + 50 * 60, "hold").await;
    stage.finish();
}
