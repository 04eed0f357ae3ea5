"""The words of synthetic prompts: common, of four letters, one token each to most tokenizers."""

WORDS: tuple[str, ...] = tuple(
    """
    able acid aged also area army away baby back ball band bank base bath beat bell belt best bird
    blow blue boat body bone book born both bowl bulk burn bush busy cake call calm came camp card
    care case cash cast cell chip city clay club coal coat code cold come cook cool cope copy core
    cost crew crop dark data date dawn days dead deal dean dear debt deep desk dial diet disc door
    dose down draw drop drug dual dust duty each earn ease east easy edge else even ever face fact
    fail fair fall farm fast fate fear feed feel feet fell felt file fill film find fine fire firm
    fish five flat flow food foot form fort four free from fuel full fund gain game gate gave gear
    gift girl give glad goal goes gold golf gone good gray grew grow gulf hair half hall hand hang
    hard harm hate have head hear heat held help here hero high hill hire hold hole holy home hope
    host hour huge hung hunt idea inch into iron item jack join jump jury just keen keep kept kick
    kind king knee knew know lack lady laid lake land lane last late lead left less life lift like
    line link list live load loan lock long look lord lose loss lost love luck made mail main make
    male many mark mass meal mean meat meet menu mile milk mill mind mine miss mode mood moon more
    most move much must name near neck need news
    """.split()  # noqa: SIM905 (256 words in a column would be 256 lines)
)
"""Their order is part of what a seed means: never change it."""
