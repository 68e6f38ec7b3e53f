"""Numbers of nobody: their check digits are right, nothing else is."""

from stdnum import iban, luhn
from stdnum.fr import nir, siren

from gateway.guardrails.personal import find
from gateway.guardrails.personal.numbers import rib_key


def keyed(number: str) -> str:
    """A social security number with its key."""
    return number + nir.calc_check_digits(number + "00")


def seen(text: str) -> list[tuple[str, str]]:
    return [(found.kind, text[found.start : found.end]) for found in find(text)]


NIR = keyed("2870633063127")
CORSICAN = keyed("185112A004017")
COMPANY = "41820337" + luhn.calc_check_digit("41820337")
ESTABLISHMENT = COMPANY + "0002" + luhn.calc_check_digit(COMPANY + "0002")
VAT = "FR" + siren.to_tva(COMPANY)
CARD = "497012345678901" + luhn.calc_check_digit("497012345678901")
AMEX = "37141234567890" + luhn.calc_check_digit("37141234567890")
BANK, BRANCH, ACCOUNT = "10207", "00412", "0Z4412X9871"
KEY = f"{rib_key(BANK, BRANCH, ACCOUNT):02d}"
BBAN = BANK + BRANCH + ACCOUNT + KEY
FRENCH = "FR" + iban.calc_check_digits("FR00" + BBAN) + BBAN
GERMAN = "DE" + iban.calc_check_digits("DE00500105175407324931") + "500105175407324931"


def spaced(value: str, *sizes: int, by: str = " ") -> str:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(value[at : at + size])
        at += size
    assert at == len(value)
    return by.join(pieces)
