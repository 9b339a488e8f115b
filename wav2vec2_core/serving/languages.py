"""Codes of languages: clients write ISO 639-1 (``fr``), MMS models ISO 639-3 (``fra``)."""

from __future__ import annotations

_PAIRS = (
    "aa:aar ab:abk af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bm:bam "
    "bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cs:ces cv:chv cy:cym da:dan de:deu dv:div dz:dzo "
    "ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry ga:gle "
    "gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin hr:hrv ht:hat hu:hun hy:hye ia:ina id:ind ig:ibo "
    "is:isl it:ita ja:jpn jv:jav ka:kat kg:kon ki:kik kk:kaz kl:kal km:khm kn:kan ko:kor ku:kur kv:kom kw:cor "
    "ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon "
    "mr:mar ms:msa mt:mlt my:mya na:nau nb:nob ne:nep nl:nld nn:nno no:nor nv:nav ny:nya oc:oci om:orm or:ori "
    "os:oss pa:pan pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme "
    "sg:sag si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam "
    "te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr "
    "ur:urd uz:uzb vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul"
)
#: ISO 639-1 code -> ISO 639-3 code.
_THREE_LETTERS: dict[str, str] = {pair[:2]: pair[3:] for pair in _PAIRS.split()}


def language_of(code: str, known: list[str]) -> str:
    """The code by which a model knows a language.

    Args:
        code: as a client writes it: one of the model's own, or ISO 639-1.
        known: the model's codes. Some name a script (``uzb-script_latin``); the only one of a language stands for it.

    Returns:
        One of ``known``, or ``code`` where none fits: the model then says what it has.
    """
    if code in known:
        return code
    wanted = _THREE_LETTERS.get(code, code)
    fitting = [own for own in known if own.partition("-")[0] == wanted]
    return wanted if wanted in known else fitting[0] if len(fitting) == 1 else code
