"""Values of LangChain as values of LiveKit, and back: messages, images, and voices, which go one way only."""
