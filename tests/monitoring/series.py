"""Reading a page of metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def samples(page: str | bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the page by its name and labels."""
    text = page.decode() if isinstance(page, bytes) else page
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(page: str | bytes, name: str, **labels: str) -> float:
    """One sample; 0 if it is not there, as before it was first counted."""
    return samples(page).get((name, frozenset(labels.items())), 0.0)


def labels_of(page: str | bytes, name: str) -> list[dict[str, str]]:
    return [dict(labels) for sample, labels in samples(page) if sample == name]
