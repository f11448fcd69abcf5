"""Reports: what a caller tells, asks or imagines, and does not wish.

"My friend works in billing", "I booked a table last week", "If I apply, when would I hear back?"
"""

import re

from graph_voice_livekit.offline.words import clauses, content, sentences

__all__ = ["is_report", "is_undecided"]

_START = (
    r"^\W*(?:(?:and|but|so|oh|well|yeah|yes|no|hi|hello|hey|okay|ok|because|then|you\s+know|see|look|actually)\b\W*)*"
)
_PERSON = (
    r"(?:friend|brother|sister|mother|mom|mum|father|dad|son|daughter|husband|wife|cousin|uncle|aunt|neighbou?r|boss"
    r"|colleague|coworker|roommate|partner|boyfriend|girlfriend|fianc[eé]e?|grand\w+|parent|kid|child|children|family"
    r"|doctor|guy|man|woman|lady|person|somebody|someone)"
)
_OTHERS = (
    rf"(?:(?:my|our|his|her|their|a|an|the|some)\s+(?:\w+\s+)?{_PERSON}s?(?!['’]s)"
    r"|he|she|they|somebody|someone|everybody|everyone|nobody)"
)
_WISHES = (
    r"(?:wants?|needs?|would\s+like|['’]d\s+like|must|should|can(?:no|['’])?t|could|feels?|keeps?|hurts?"
    r"|(?:is|are|['’]s|['’]re)(?!\s+(?:a|an|the|in|at|on|with|from|your|my)\b))\b"
)
_HAS = r"(?:has|have|had|got|['’]s|caught|lost)\b"
_SAYS = r"(?:told|said|says|recommended|mentioned|suggested)\b"
_DONE = (
    r"(?:i|we)\s+(?:just\s+|only\s+|once\s+|even\s+|have\s+|had\s+)?"
    r"(?:used\s+to|paid|had|went|did|made|came|bought|ate|saw|spoke|(?:was|were)(?!\s+\w+(?:ed|ing)\b)"
    r"|(?!need|want|call|receiv|notic|tri|hop|decid)\w{2,}ed)\b"
)
_OTHERS_DO = re.compile(rf"(?i){_START}{_OTHERS}\b\s*(?!\s)(?!{_WISHES})")
_OTHERS_HAVE = re.compile(rf"(?i){_START}{_OTHERS}\s+{_HAS}")
_SOMEBODY_SAID = re.compile(rf"(?i)\b(?!you\b|i\b|we\b)\w+\s+{_SAYS}")
_I_DID = re.compile(rf"(?i){_START}{_DONE}")
_SETTLED = re.compile(
    r"(?i)\b(?<!never )(?<!hardly )(?:works?\s+(?:\w+\s+)?(?:now|again)"
    r"|(?:fixed|fine|back|okay|ok|solved|better|resolved|sorted)\s+(?:now|again))\b"
    r"|\bthat['’]?s\s+not\s+(?:it|why|what)\b|\bnot\s+(?:the|my)\s+(?:problem|reason|question)\b"
)
_IF = re.compile(
    r"(?i)(?:^|[,.;!?]\s*|\b(?:and|but|so|what|even|only)\s+)if\s+(?!(?:it|that)(?:['’]s|\s+is)\s+(?:possible|ok|okay|all\s+right|fine)"
    r"|you\s+(?:can|could|don['’]?t|please|would)|(?:i|we)\s+(?:may|could|can|might)|possible|any\b)"
)
_YES_BUT = re.compile(
    r"(?i)^\W*(?:yes|yeah|yep|sure|ok|okay|right|correct|exactly)\W+(?:but|if|only\s+if|except|as\s+long\s+as)\b"
)
_OTHERS_ASK = re.compile(rf"(?i){_START}{_OTHERS}\s+(?:\w+\s+)?(?:to\s+know|asks?|asked|wonders?|wondered)\b")
_LONG_AGO = re.compile(r"(?i)\blast\s+(?:time|year)\b|\byears?\s+ago\b|\bback\s+then\b")
_OPENS_YES_OR_NO = re.compile(r"(?i)\W*(?:is|are|was|were|do|does|did|can|could|will|would|may|has|have)\b")
_YES_OR_NO = re.compile(
    r"(?i)(?:is|are|was|were|does|did|do|isn['’]t|aren['’]t)\s+(?:you|this|that|it|he|she|they|your)\b"
)
_REFERS = re.compile(r"(?i)\b(?:would|will|is|was|does|did)\s+(?:that|those|these|they)\b")
_ASKS = re.compile(r"(?i)\W*(?:what|which|who|when|where|why|how)\b")
_UNDECIDED = re.compile(
    r"(?i)\b(?:might|maybe|perhaps|not\s+(?:so\s+|quite\s+)?sure|thinking\s+(?:about|of)|considering|deciding|decide|undecided|depends"
    r"|suppose|imagine|what\s+if|was\s+going\s+to|were\s+going\s+to|used\s+to|or|without|minus|except|hold\s+the)\b"
    r"|\b(?:with|but)\s+no\b|\bno\s+\w+\s*(?:please)?\W*$|\bone\s+without\b"
)


def is_report(text: str, like: str) -> bool:
    """Whether `text` tells, asks or imagines something where `like`, the example that it resembles, wishes it."""
    tells = (_IF, _YES_BUT, _SETTLED, _OTHERS_ASK, _LONG_AGO)
    if any(one.search(text) and not one.search(like) for one in tells):
        return True
    if _is_other_question(text, like):
        return True
    told = [clause for sentence in sentences(text) for clause in clauses(sentence) if content(clause)]
    return bool(told) and all(_tells(clause, like) for clause in told)


def is_undecided(sentence: str) -> bool:
    """Whether something is said that makes a thing in the sentence no order: "a burger or a wrap", "but no onions"."""
    return any(one.search(sentence) for one in (_UNDECIDED, _IF, _YES_BUT))


def _tells(clause: str, like: str) -> bool:
    if _OTHERS_HAVE.search(clause):
        return not re.search(rf"(?i)\b{_HAS}", like)
    if _OTHERS_DO.search(clause):
        return not _OTHERS_DO.search(like)
    if _SOMEBODY_SAID.search(clause):
        return not _SOMEBODY_SAID.search(like)
    if _I_DID.search(clause):
        return not _I_DID.search(like)
    return bool(re.match(r"(?i)\W*(?:it|that)\s+was\b", clause))


def _is_other_question(text: str, like: str) -> bool:
    """Whether it asks whether something is so, or for what was said before, and `like` does not."""
    question = text.strip()
    if _REFERS.search(question) and _ASKS.match(question) and not _REFERS.search(like):
        return True
    return bool(_YES_OR_NO.match(question)) and not _OPENS_YES_OR_NO.match(like)
