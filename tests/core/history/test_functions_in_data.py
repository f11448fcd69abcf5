"""Data is not code: what a run's input or a checkpoint holds chooses none of the functions that this process calls."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_SINGLE_ARG, JsonPlusSerializer
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, Handoff, create_voice_graph, history
from graph_voice.errors import HistoryError
from graph_voice.history.reducers import merge_messages
from graph_voice.testing import Call, ScriptedModel

PLANTED = "planted_by_data"
"""A module that nothing but an import path in data would import."""


@pytest.fixture(autouse=True)
def planted(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("planted")
    text = "def run(*args): open(__file__ + '.ran', 'w').close(); return args[0]\nclass Thing(dict): pass\n"
    (folder / f"{PLANTED}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    yield
    assert sys.modules.pop(PLANTED, None) is None, "data has imported a module"
    assert not list(Path(folder).glob("*.ran"))


def keep_last(messages: list[AnyMessage], userdata: Any) -> list[AnyMessage]:
    return messages[-1:]


def one_each(messages: Any) -> int:
    return len(messages)


REGISTERED = f"{__name__}:keep_last"
registered = history.custom(keep_last)
counted = history.trim_tokens(1, counter=one_each)


def desk(**options: Any) -> Any:
    agents = [
        Agent("desk", instructions="D.", handoffs=[Handoff("billing", history=registered)]),
        Agent("billing", instructions="B."),
    ]
    return create_voice_graph(agents, llm=ScriptedModel(lambda messages: "Hi."), **options)


names = st.sampled_from(
    [f"{PLANTED}:run", f"{PLANTED}:Thing", PLANTED, f"{PLANTED}.run", "sys:exit", "os:system", "", ":", "a:b:c"]
) | st.sampled_from([0, [f"{PLANTED}:run"], {"fn": f"{PLANTED}:run"}, True])
steps = st.recursive(
    st.one_of(
        st.builds(lambda fn: {"op": "custom", "fn": fn}, names),
        st.builds(lambda fn: {"op": "trim_tokens", "max_tokens": 1, "counter": fn}, names),
        st.builds(lambda fn: {"op": "when", "max_tokens": 1, "counter": fn, "then": [{"op": "fresh"}]}, names),
        st.builds(lambda fn: {"op": "full", "fn": fn, "counter": fn}, names),
    ),
    lambda inner: st.builds(lambda then: {"op": "when", "max_items": 1, "then": [{"op": "full"}, then]}, inner),
    max_leaves=3,
)


@settings(max_examples=60)
@given(step=steps, before=st.booleans())
async def test_a_runs_input_names_no_code(step: Any, before: bool) -> None:
    operation = {"steps": [{"op": "full"}, step] if before else [step]}
    graph = desk().compile(checkpointer=InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None)))
    for number, update in enumerate(
        [operation, [operation], {"pending": [operation]}, {"pending": [operation], "way": {"to": "billing"}}]
    ):
        config: Any = {"configurable": {"thread_id": str(number)}}
        with pytest.raises(HistoryError):
            await graph.ainvoke({"messages": ["hello"], "chat_ctx": update}, config)
    with pytest.raises(HistoryError):
        history.from_dict(json.loads(json.dumps(operation)))
    with pytest.raises(HistoryError):
        history.reducer()([HumanMessage("x")], [operation])
    with pytest.raises(HistoryError):
        merge_messages([], [operation])


async def test_it_is_refused_with_words_that_name_the_function_and_say_what_to_do() -> None:
    with pytest.raises(HistoryError, match=rf"'{PLANTED}:run', which this program has not registered.*history\.custom"):
        await (
            desk()
            .compile()
            .ainvoke({"messages": ["hi"], "chat_ctx": {"steps": [{"op": "custom", "fn": f"{PLANTED}:run"}]}})
        )


async def test_an_operation_built_by_hand_runs_nothing_either() -> None:
    by_hand = history.Operation([{"op": "custom", "fn": f"{PLANTED}:run"}])
    with pytest.raises(HistoryError, match="not registered"):
        await history.apply(by_hand, [HumanMessage("x")])
    with pytest.raises(HistoryError, match="not registered"):
        await history.apply(
            history.Operation([{"op": "trim_tokens", "max_tokens": 1, "counter": f"{PLANTED}:run"}]),
            [HumanMessage("x")],
        )


async def test_what_the_program_has_registered_runs_when_data_names_it() -> None:
    data = json.loads(json.dumps((registered | counted).to_dict()))
    assert data["steps"][0]["fn"] == REGISTERED
    talk = [HumanMessage(str(n), id=str(n)) for n in range(3)]
    assert [m.text for m in await history.apply(history.from_dict(data), talk)] == ["2"]
    state = await desk().compile().ainvoke({"messages": [("user", "a"), ("user", "b")], "chat_ctx": data})
    assert len(history.view(state)) == 2, "the last message, and the reply"


# ---- from a store, on both front ends


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_a_stored_call_names_no_code(front_end: str, caplog: pytest.LogCaptureFixture) -> None:
    saver = InMemorySaver()
    graph = desk().compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"messages": ["hello"]}, config)
    await graph.aupdate_state(config, {"chat_ctx": registered}, as_node="desk")
    bad = {"pending": [{"steps": [{"op": "custom", "fn": f"{PLANTED}:run"}]}]}
    places = [place for place, (kind, data) in saver.blobs.items() if REGISTERED.encode() in data]
    assert places, "somebody who can write to the store changes what it says"
    saver.blobs.update(dict.fromkeys(places, saver.serde.dumps_typed(bad)))
    async with Call(desk(), front_end=front_end, saver=saver, thread_id="1", check=False) as phone:
        await phone.says("And now?")
    assert "has not registered" in caplog.text


# ---- secrets in data are not code either


def constructing(module: str, name: str, argument: Any) -> str:
    """What LangGraph's serializer would construct, in the form of an encrypted secret."""
    inner = ormsgpack.packb((module, name, argument))
    return base64.b64encode(ormsgpack.packb(ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, inner))).decode()


class Caller(BaseModel):
    name: str = ""
    card: SecretStr | None = None


class Gcm:
    def __init__(self) -> None:
        self._cipher = AESGCM(b"0" * 16)

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "gcm", b"0" * 12 + self._cipher.encrypt(b"0" * 12, plaintext, None)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return self._cipher.decrypt(ciphertext[:12], ciphertext[12:], None)


@pytest.mark.parametrize("userdata", [Caller, dict])
@pytest.mark.parametrize("secrets", [EncryptedSerializer(Gcm()), JsonPlusSerializer()], ids=["encrypted", "readable"])
@pytest.mark.parametrize("kind", ["msgpack", "json", "pickle", "bytes", "msgpack+gcm", "bytes+gcm"])
async def test_what_looks_like_an_encrypted_secret_constructs_nothing(userdata: Any, secrets: Any, kind: str) -> None:
    payload = constructing(PLANTED, "Thing", {})
    graph = desk(userdata=userdata, secrets=secrets).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    for field in ("card", "name"):
        text = f"redacted:{kind}:{payload}"
        state = await graph.ainvoke({"messages": ["hi"], "userdata": {field: text}}, config)
        found = state["userdata"][field] if userdata is dict else getattr(state["userdata"], field)
        assert not found or isinstance(found, str | SecretStr)
    assert await graph.aget_state(config)
