"""Finds user turns that LiveKit drops.

LiveKit drops a user turn that ends while an agent hands off, or while a speech that disallows interruptions is played,
and says so only in its log. Their words are still known from the final transcripts. A transcript is lost if it is in no
user turn when no user turn can contain it any more.
"""

from dataclasses import dataclass

from livekit.agents import llm
from livekit.agents.voice.events import UserInputTranscribedEvent

__all__ = ["LostTurns"]


@dataclass
class _Final:
    text: str
    at: float
    """When it was recognized, in seconds since the epoch."""
    protected: bool
    """Whether the agent could not be interrupted then or later, so that LiveKit may have dropped the turn."""
    over: bool = False
    """Whether its turn has ended: the caller was then silent for longer than LiveKit waits for more words."""


class LostTurns:
    """The final transcripts of a call that are in no user message."""

    def __init__(self) -> None:
        self._unclaimed: list[_Final] = []
        self._passed: dict[str, tuple[llm.ChatMessage, list[_Final]]] = {}
        """Turns that LiveKit has passed to the agent, but not yet added to its history."""
        self._interim: _Final | None = None
        """The last interim transcript."""
        self._leaving_since: float | None = None
        self._speaks: bool | None = None
        """Whether the caller speaks now; None until LiveKit has reported it."""
        self._quiet_since = 0.0

    @property
    def suspected(self) -> bool:
        """Whether LiveKit may have dropped words because the agent could not be interrupted."""
        return any(final.protected for final in self._unclaimed)

    def transcribed(self, event: UserInputTranscribedEvent, *, protected: bool) -> None:
        """The recognizer has sent a transcript. `protected`: the agent can't be interrupted now."""
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
        """The caller has begun to speak, or has stopped.

        Args:
            speaks: whether they speak now.
            now: in seconds since the epoch.
            max_delay: the longest time, in seconds, that LiveKit waits for a turn to go on.
        """
        if speaks:
            if self._leaving_since is None:  # a turn that ends during a handoff is lost
                self._end_turns(now, max_delay)
            self._speaks = True
        elif self._speaks:
            self._speaks, self._quiet_since = False, now

    def _end_turns(self, now: float, max_delay: float) -> None:
        for final in self._unclaimed:
            # If nothing reports when the caller speaks, the time of the transcript counts as the end of the words.
            quiet_since = final.at if self._speaks is None else self._quiet_since
            final.over = final.over or (not self._speaks and quiet_since < now - max_delay)

    def protect(self) -> None:
        """The agent can't be interrupted from now on: a turn that ends now is dropped."""
        for final in self._unclaimed:
            final.protected = True

    def passed(self, message: llm.ChatMessage) -> None:
        """A user turn is over, and LiveKit passes it to the agent's `on_user_turn_completed`."""
        self._passed[message.id] = (message, self._remove(message.text_content or ""))

    def stopped(self, message: llm.ChatMessage) -> None:
        """The agent drops this turn on purpose (`StopResponse`)."""
        self._passed.pop(message.id, None)

    def claimed(self, message: llm.ChatMessage, *, edited: bool) -> None:
        """A user message is in LiveKit's history. After a preemptive reply its id is not that of the passed turn.

        Args:
            message: the message.
            edited: whether the words may have been edited without the turn having been passed here. If not, a message
                that was not passed and whose words nobody has spoken was typed.
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
        """An agent begins to hand off."""
        if self._leaving_since is None:
            self._leaving_since = now

    def take(self, max_delay: float, *, recognizer_ended: bool) -> llm.ChatMessage | None:
        """What was lost in a handoff, as one message at the time of its first words.

        It is called when the new agent is active. By then no user turn can contain the words any more, because the old
        agent's audio recognition, which had collected them, has ended.

        Args:
            max_delay: the longest time, in seconds, that LiveKit waits for a turn to go on. If the caller was silent
                for longer, the turn was over before the handoff; it is lost if the agent could not be interrupted.
            recognizer_ended: whether the new agent has a recognizer of its own, so that the last interim transcript
                will never become final. A recognizer that goes on will send it again.
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
        """What was dropped because the agent could not be interrupted. Call it when nobody speaks and no turn is open.

        Args:
            min_words: of the session's interruption options. Fewer words don't interrupt the agent, and LiveKit keeps
                them for the caller's next turn.
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
        """Remove the transcripts that a turn of these words consists of, and return them.

        Args:
            words: the turn; LiveKit joins its transcripts with spaces.
            until: when the message was made. If no transcripts make up the words, they were edited, and all transcripts
                up to then are removed.
        """
        key = _key(words)
        count = len(self._unclaimed)
        for stop in range(count, 0, -1):
            for start in range(stop):
                if _key(" ".join(final.text for final in self._unclaimed[start:stop])) == key:
                    found = self._unclaimed[start:stop]
                    # Turns end one after the other, so no turn will contain an earlier transcript. Keep a dropped one.
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
