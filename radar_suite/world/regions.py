"""Regions of the built-in world: ISO 3166-1 codes with their languages (BCP 47) and a long-tailed share."""

# Most posts first. The share of the r-th region is proportional to (r + 3) ** -1.1: a head of a few large markets
# and a tail of more than a hundred small ones, as on a global platform.
_TABLE = """
US:en,es GB:en ES:es BR:pt MX:es DE:de,en,tr FR:fr ID:id TR:tr IT:it RU:ru CA:en,fr AR:es EG:ar,en PH:en CO:es IN:en
SA:ar,en AU:en PT:pt NG:en CL:es PE:es PL:en CH:de,fr,it AT:de BE:fr,en MA:ar,fr DZ:ar,fr ZA:en IQ:ar AE:ar,en KE:en
EC:es VE:es MY:id,en KZ:ru NL:en,de SE:en GH:en TN:ar,fr JO:ar DO:es GT:es BO:es CR:es UY:es PY:es HN:es SV:es NI:es
PA:es CU:es PR:es,en IE:en NZ:en SG:en,id BY:ru KG:ru,tr AZ:tr,ru CY:tr,en LU:fr,de MC:fr,it SN:fr CI:fr CM:fr,en
CD:fr ML:fr BF:fr NE:fr BJ:fr TG:fr GN:fr GA:fr MG:fr HT:fr RE:fr AO:pt MZ:pt CV:pt GW:pt ST:pt TL:pt,id LI:de SM:it
VA:it MT:en,it LY:ar SD:ar SY:ar LB:ar,fr,en KW:ar QA:ar,en BH:ar,en OM:ar YE:ar PS:ar MR:ar,fr DJ:fr,ar KM:fr,ar
JM:en TT:en BB:en BS:en GY:en BZ:en,es FJ:en PG:en UG:en TZ:en ZM:en ZW:en RW:en,fr SL:en LR:en GM:en MW:en NA:en BW:en
LK:en PK:en BD:en NP:en FI:en DK:en NO:en IS:en GQ:es,fr BN:id,en
"""
_PAIRS = [entry.split(":") for entry in _TABLE.split()]
REGIONS: tuple[str, ...] = tuple(code for code, _ in _PAIRS)
REGION_LANGUAGES: tuple[tuple[str, ...], ...] = tuple(tuple(languages.split(",")) for _, languages in _PAIRS)
REGION_SHARES: tuple[float, ...] = tuple((rank + 3.0) ** -1.1 for rank in range(len(REGIONS)))

# Two rules of the policies depend on the region (see policies.py).
BETTING_PROHIBITED = ("TR", "ID", "EG", "SA", "IQ", "AE", "MY", "DZ", "MA", "JO", "KW", "QA", "LY", "SD", "YE")
VAPE_LICENSABLE = ("DE", "FR", "IT", "ES", "PT", "AT", "BE", "CH", "LU", "NL", "IE")
