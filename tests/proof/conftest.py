"""The proof plays on LiveKit too, with what the LiveKit tests share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "livekit"))
