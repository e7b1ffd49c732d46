"""Key phrases of answers, and answers that lack some of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

__all__ = ["degrade", "rake_phrases"]


def rake_phrases(text: str, stopwords: Collection[str]) -> list[tuple[str, float]]:
    """Key phrases of a text and their scores by RAKE, the best first.

    Phrases lie between stop-words and punctuation. A word scores its degree, the summed
    lengths of the phrases that it is in, over its frequency; a phrase the sum of its
    words.

    Args:
      text: any; case does not matter.
      stopwords: in lower case.

    Returns:
      Distinct phrases in lower case with their scores; equal scores in order of
      appearance.

    Source: RAKE, Rose et al. 2010; that SPO has it so is inferred from the abstract of
      arXiv:2409.17791.

    >>> from logitlab.data.degraded_answers import rake_phrases
    >>> rake_phrases("The deep sea is a deep, cold place.", {"the", "is", "a"})
    [('cold place', 4.0), ('deep sea', 3.5), ('deep', 1.5)]
    """
    stopwords, phrases, words = set(stopwords), [], []
    for token in [*re.findall(r"[\w'-]+|[^\w\s]", text.lower()), "."]:
        if re.match(r"\w", token) and token not in stopwords:
            words.append(token)
        elif words:
            phrases.append(tuple(words))
            words = []
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for phrase in phrases:
        for word in phrase:
            frequency[word] += 1
            degree[word] += len(phrase)
    scores = {
        " ".join(phrase): sum(degree[w] / frequency[w] for w in phrase)
        for phrase in dict.fromkeys(phrases)
    }
    return sorted(scores.items(), key=lambda item: -item[1])


def degrade(
    tokens: Sequence, phrases: Sequence[Sequence], level: int, n_levels: int
) -> list:
    """An answer without its highest-scoring key phrases.

    Use it to make the degraded answers that ``preference_degree_loss`` tells apart.

    Args:
      tokens: of the answer, anything that compares.
      phrases: sequences of such tokens, the best first.
      level: 0 leaves the answer as it is, ``n_levels`` takes all phrases out.
      n_levels: K, at least ``level``.

    Returns:
      The tokens that are left. Of ``n`` phrases, the first ``ceil(level * n / K)`` are
      taken out wherever they occur.

    Raises:
      ValueError: ``level`` is not in ``[0, n_levels]``.

    Source: Li et al. 2024, arXiv:2409.17791; the share inferred from the abstract.

    >>> from logitlab.data.degraded_answers import degrade
    >>> degrade("a cold place in deep sea".split(), [["cold"], ["deep", "sea"]], 1, 2)
    ['a', 'place', 'in', 'deep', 'sea']
    """
    if not 0 <= level <= n_levels:
        raise ValueError(f"level is {level}, expected one of 0 to {n_levels}")
    gone = -(-level * len(phrases) // n_levels) if level else 0
    left = list(tokens)
    for phrase in map(list, phrases[:gone]):
        i = 0
        while phrase and i + len(phrase) <= len(left):
            if left[i : i + len(phrase)] == phrase:
                del left[i : i + len(phrase)]
            else:
                i += 1
    return left
