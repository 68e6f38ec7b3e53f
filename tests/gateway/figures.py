"""The metrics of a gateway, read as Prometheus reads them."""

from __future__ import annotations

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


class Figures:
    """What one scrape showed."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def of(self, name: str, **labels: str) -> float:
        """The sum of all samples of a name (without `passerelle_`) that have these labels; 0 where there is none."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"passerelle_{name}" and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        """The values of a label."""
        return {sample.labels[label] for sample in self.samples if sample.name == f"passerelle_{name}"}

    def names(self) -> set[str]:
        """The names of all samples."""
        return {sample.name for sample in self.samples}


async def scraped(url: str) -> Figures:
    """What the gateway at `url` shows, over a connection of its own."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        return Figures(await answer.text())
