"""Which rule of the configuration a series falls under."""

from mrlift.io.facts import Facts
from mrlift.node.config import RuleConfig


def matching(facts: Facts, rules: tuple[RuleConfig, ...]) -> RuleConfig | None:
    """The first rule that a series fits."""
    return next((rule for rule in rules if rule.fits(facts)), None)
