"""User turns that LiveKit drops, found again.

LiveKit refuses a user turn that ends while an agent hands over, and one that ends while a speech that disallows
interruptions is played; it says so in its log only. What was said is still known by its final transcripts: those that
no user turn has claimed once nobody can claim them any more are lost.
"""

from dataclasses import dataclass

from livekit.agents import llm
from livekit.agents.voice.events import UserInputTranscribedEvent

__all__ = ["LostTurns"]


@dataclass
class _Final:
    text: str
    at: float
    """When it was understood, in seconds since the epoch."""
    protected: bool
    """Whether the agent could not be interrupted, then or later: the turn may have been dropped for it."""
    over: bool = False
    """Whether its turn has ended: the caller was silent behind it for longer than LiveKit waits for more."""


class LostTurns:
    """The final transcripts of a call that are in no user message yet."""

    def __init__(self) -> None:
        self._unclaimed: list[_Final] = []
        self._passed: dict[str, tuple[llm.ChatMessage, list[_Final]]] = {}
        """Turns that LiveKit has passed to the agent and not added to its history yet."""
        self._interim: _Final | None = None
        """Words that the recognizer is not sure of yet."""
        self._leaving_since: float | None = None
        self._speaks: bool | None = None
        """Whether the caller speaks now; None until somebody has said that they do."""
        self._quiet_since = 0.0

    @property
    def suspected(self) -> bool:
        """Something was said that LiveKit may have dropped because the agent could not be interrupted."""
        return any(final.protected for final in self._unclaimed)

    def transcribed(self, event: UserInputTranscribedEvent, *, protected: bool) -> None:
        """The recognizer is sure of some words. `protected`: the agent can't be interrupted now."""
        text = event.transcript.strip()
        if not text:
            return
        understood = _Final(text, event.created_at, protected)
        if event.is_final:
            self._interim = None
            self._unclaimed.append(understood)
        else:
            self._interim = understood

    def user_state(self, *, speaks: bool, now: float, max_delay: float) -> None:
        """The caller begins to speak, or is silent from now on.

        Args:
            speaks: which of the two.
            now: in seconds since the epoch.
            max_delay: seconds that LiveKit waits at most for a turn to go on.
        """
        if speaks:
            if self._leaving_since is None:  # a turn that ends during a handover is lost
                self._end_turns(now, max_delay)
            self._speaks = True
        elif self._speaks:
            self._speaks, self._quiet_since = False, now

    def _end_turns(self, now: float, max_delay: float) -> None:
        for final in self._unclaimed:
            # Where nobody says when the caller speaks, a turn is taken to be no longer than the wait for its end.
            quiet_since = final.at if self._speaks is None else self._quiet_since
            final.over = final.over or (not self._speaks and quiet_since < now - max_delay)

    def protect(self) -> None:
        """The agent can't be interrupted from now on: a turn that ends now is dropped."""
        for final in self._unclaimed:
            final.protected = True

    def passed(self, message: llm.ChatMessage) -> None:
        """A user turn is over, and the agent's `on_user_turn_completed` is about to be asked what it makes of it."""
        self._passed[message.id] = (message, self._remove(message.text_content or ""))

    def stopped(self, message: llm.ChatMessage) -> None:
        """The agent wants no reply to it (`StopResponse`): somebody means it to be dropped."""
        self._passed.pop(message.id, None)

    def claimed(self, message: llm.ChatMessage, *, edited: bool) -> None:
        """A user message is in the history. With a preemptive reply it has another id than the turn that was passed.

        Args:
            message: the message.
            edited: whether a turn that was spoken may have other words by now, without having been passed here. Else a
                message that was not passed, and whose words nobody has spoken, was typed.
        """
        words = message.text_content or ""
        known = [key for key, (own, _) in self._passed.items() if key == message.id or own.text_content == words]
        if not known:
            self._remove(words, until=message.created_at if edited else None)
            return
        for key in list(self._passed):  # turns end one after the other
            del self._passed[key]
            if key == known[0]:
                break

    def leaving(self, now: float) -> None:
        """An agent begins to hand over."""
        if self._leaving_since is None:
            self._leaving_since = now

    def take(self, max_delay: float, *, recognizer_ended: bool) -> llm.ChatMessage | None:
        """The new agent's activity begins: what was lost, as one message at the time of its first words.

        Nobody can claim it any more, since the recognizer that collected the words is gone.

        Args:
            max_delay: seconds that LiveKit waits at most for a turn to go on. Words behind which the caller was silent
                for longer belong to a turn that was over before the handover; they count if the agent could not be
                interrupted then.
            recognizer_ended: the new agent has one of its own, so what the old one was not sure of yet will never be
                final. One that goes on says it again.
        """
        since, self._leaving_since = self._leaving_since, None
        interim, self._interim = self._interim, None
        if interim is not None and recognizer_ended:
            self._unclaimed.append(interim)
        if since is None:
            self._unclaimed.clear()
            self._passed.clear()
        else:
            self._end_turns(since, max_delay)
            self._unclaimed = [f for f in self._unclaimed if f.protected or not f.over]
        return self._take()

    def take_dropped(self, min_words: int) -> llm.ChatMessage | None:
        """The line is quiet, and no turn is about to end: what was dropped because nobody could interrupt.

        Args:
            min_words: fewer words don't interrupt the agent, as the session's options have it: LiveKit keeps them for
                the caller's next turn.
        """
        if not self.suspected:
            return None
        if sum(len(final.text.split()) for final in self._unclaimed) < min_words:
            return None
        return self._take()

    def _take(self) -> llm.ChatMessage | None:
        texts = [(final.at, final.text) for final in self._unclaimed]
        for own, finals in self._passed.values():
            texts.append((finals[0].at if finals else own.created_at, own.text_content or ""))
        self._unclaimed.clear()
        self._passed.clear()
        texts = sorted((at, text) for at, text in texts if text.strip())
        if not texts:
            return None
        return llm.ChatMessage(role="user", content=[" ".join(text for _, text in texts)], created_at=texts[0][0])

    def _remove(self, words: str, until: float | None = None) -> list[_Final]:
        """Take away the transcripts that a turn of these words was made of.

        Args:
            words: LiveKit joins the transcripts of a turn by spaces.
            until: when the message was made. If no transcripts make up its words (somebody edited them), all that were
                there by then are its own.
        """
        key = _key(words)
        count = len(self._unclaimed)
        for stop in range(count, 0, -1):
            for start in range(stop):
                if _key(" ".join(final.text for final in self._unclaimed[start:stop])) == key:
                    found = self._unclaimed[start:stop]
                    # Turns end one after the other: what comes before, and was not dropped, will be in none.
                    before = [final for final in self._unclaimed[:start] if final.protected]
                    self._unclaimed = before + self._unclaimed[stop:]
                    return found
        if until is None:
            return []
        gone = [f for f in self._unclaimed if f.at <= until or _key(f.text) in key]
        self._unclaimed = [f for f in self._unclaimed if f not in gone]
        return gone


def _key(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
