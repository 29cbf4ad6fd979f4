"""Log a stream, and report its stages, words and sentiment."""

import rxllm
from rxllm import Progress, Token
from rxllm import operators as ops
from rxllm.sinks import dispatch

log = ops.DebugLog(size=1000)


def on_text(text: ops.TextFigures) -> None:
    print(
        f"{text.words} words, {text.unique_words} different, in {text.sentences} sentences: "
        f"{text.mean_word_length:.1f} letters per word, {text.words_per_sentence:.1f} words each"
    )


def on_content(content: ops.ContentFigures) -> None:
    keywords = ", ".join(content.keywords)
    print(f"{content.sentiment}; {keywords}; {content.reading_time:.0f} s to read")


def on_stage(progress: Progress, _: object) -> None:
    print(f"{progress.percentage:3.0f} % {progress.stage}")


story = rxllm.model("tiny").stream("Tell me a story about a happy dog", max_tokens=80, seed=1)
story = story.pipe(
    ops.log_stream(user="ada"),
    ops.debug(log),
    ops.analyze_text(on_text),
    ops.sentiment_and_keywords(on_content, every=30),
    ops.track_stages(max_tokens=80, every=40),
)
rxllm.run(dispatch(story, {Progress: on_stage}))

longest = max(log.select(kind=Token), key=lambda entry: entry.elapsed)
print(f"{len(log)} entries, the last token after {longest.elapsed:.2f} s")
print(log.export().splitlines()[0].decode())
