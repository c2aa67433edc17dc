"""Does what its standard input lists, with OpenAI's Python SDK, and tells as JSON what the SDK gave or raised."""

import json
import sys

import openai

MESSAGES = [{"role": "user", "content": "hello"}]


def call(api, step):
    more = {"extra_headers": step.get("headers", {}), **step.get("more", {})}
    if step.get("stream"):
        more["stream"] = True
    if step.get("usage"):
        more["stream_options"] = {"include_usage": True}
    match step["call"]:
        case "chat":
            return api.chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES, **more)
        case "completions":
            return api.completions.with_raw_response.create(model="scripted", prompt="hello", **more)
        case "responses":
            return api.responses.with_raw_response.create(model="scripted", input="hello", **more)
        case "embeddings":
            return api.embeddings.with_raw_response.create(
                model="scripted", input="hello", encoding_format="float", **more
            )
        case "images":
            return api.images.with_raw_response.generate(model="scripted", prompt="a cat", **more)
        case "models":
            return api.models.with_raw_response.list(**more)


def outcome(api, step):
    try:
        raw = call(api.with_options(api_key=step["key"]), step)
        answer = raw.parse()
        # What the answer does not say stays unsaid: a field that is null is not one that is not there.
        if step.get("stream"):
            answer = [event.model_dump(mode="json", exclude_unset=True) for event in answer]
        else:
            answer = answer.model_dump(mode="json", exclude_unset=True)
        return {"answer": answer, "headers": dict(raw.headers)}
    except openai.APIStatusError as error:
        return {
            "raised": type(error).__name__,
            "status": error.status_code,
            "message": error.message,
            "type": error.type,
            "code": error.code,
            "buy_url": error.response.json().get("buy_url"),
            "headers": dict(error.response.headers),
        }
    except Exception as error:  # A broken connection: whatever the SDK makes of it.
        return {"raised": type(error).__name__, "message": str(error)}


todo = json.load(sys.stdin)
client = openai.OpenAI(base_url=todo["url"] + "/v1", api_key="unset", timeout=20)
json.dump([outcome(client, step) for step in todo["steps"]], sys.stdout)
