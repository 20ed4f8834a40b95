"""The patterns by which a sentence is judged: told, asked, supposed, quoted, or just talk.

All are for English, case-insensitive unless a capital letter is the point, and bounded: none
can take more than linear time in a sentence of a thousand characters.
"""

from __future__ import annotations

import re

_I = re.IGNORECASE
_ME = r"(?:i|we)"
_AM = r"(?:i|we)(?:'m|'re| am| are|m)"

ASKED = re.compile(
    r"^(?:(?:can|could|would|will) you\s+)?(?:please\s+)?(?:"
    r"(?:remember|don'?t forget|do not forget|make a note|take a note|keep in mind|bear in mind"
    r"|write down|save this|save the following|note down)(?:\s+(?:that|this)\b)?\s*[:,]?"
    r"|note(?:\s+that\b|:))\s+"
    r"(?!to\b|when\b|what\b|how\b|where\b|who\b|me\b|if\b|why\b|the (?:time|day)s? when\b|about\b)"
    r"(?P<what>.+)$",
    _I | re.DOTALL,
)
TO_DO = re.compile(
    r"^(?:(?:can|could|would|will) you\s+)?(?:please\s+)?"
    r"(?:remember|remind me|don'?t (?:let me )?forget|do not (?:let me )?forget"
    r"|make a note)\s+to\s+(?P<what>(?!say\b|answer\b|tell\b|reply\b)[^?]+)\??$",
    _I,
)
STANDING = re.compile(
    r"^(?:please )?(?:from now on,? |in (?:the )?future,? )?(?:please )?(?:"
    r"call me (?!an?\b|later|back|when|if|at\b|on\b|in\b|again|tomorrow|maybe|crazy)[A-Z\w]"
    r"|(?:always|never) (?:answer|reply|respond|speak|use|write|give|address|talk|greet|explain"
    r"|show|call|ask|say|make|send)\b"
    r"|(?<=, )(?:answer|reply|respond|speak|use|write|address|call)\b)",
    _I,
)
SHORT = re.compile(rf"^{_AM} (?:[\w\-]{{4,}}|\d{{1,3}})\.?$", _I)

_QUESTION = re.compile(
    r"^(?:what|who|whom|whose|where|when|why|how|which|is|are|am|was|were|do|does|did|can|could"
    r"|would|will|should|shall|may|might|have you|has|had|isn'?t|aren'?t|don'?t you|didn'?t"
    r"|any idea|you know|is it)\b|\b(?:to|at|is|am) (?:what|which|whom)\b.*|\bright\?$"
    r"|^(?:i (?:want|need|'d like|would like)|i(?:'d| would) (?:like|love)) to (?:know|hear|ask)",
    _I,
)
_SUPPOSED = re.compile(
    r"^(?:if|suppose|supposing|imagine|assume|assuming|pretend|say i|hypothetically|for example"
    r"|for instance|e\.g\.|maybe|perhaps|as if|unless|whether|what if|let(?:'s| us|s)|in (?:my|a)"
    r" dream|act as|in theory|theoretically|ideally)\b"
    r"|\b(?:i|we|he|she|it|they) (?:would|could|might|may|should)(?:n't| not)?\b(?! rather| prefer)"
    r"|\b(?:i|we)'d (?:be|have|do|say|go|buy|take)\b|\b(?:i|we) wish\b|^i dreamt?\b"
    r"|^i (?:dreamed|imagined|pretend)\b",
    _I,
)
_QUOTES = re.compile(
    r"^(?!(?:i|we|my (?:doctor|gp|dentist|therapist|physio|vet|boss|name|lawyer))\b).{0,60}?"
    r"\b(?:says?|said|told|asks?|asked|wrote|writes|goes|reads|sings?|shouts?|shouted|repl(?:y|ied)"
    r"|answered|claims?|claimed)\b(?: me| us)?\s*(?:[:,\"']|that\b|my\b|i\b|i'm\b)"
    r"|\bin (?:the|a|this|that) (?:book|film|movie|story|novel|game|song|show|episode|letter)\b"
    r"|[\"”],? (?:said|says|asked|he|she|they)\b",
    _I,
)
_FAVOURITE_QUOTE = re.compile(r"^\"[^\"]{1,200}\" is my favou?rite\b", _I)
_SPAN = re.compile(r"\"[^\"]*\"")
MOCKING = re.compile(
    r"^(?:(?:oh|well|yeah|yes|sure|right)[ ,]+)+(?:great|right|sure|and|yes)?[ ,]*(?:i just love"
    r"|i(?:'m| am) (?:the|made)|and i)\b|^(?:yeah,? right|oh,? (?:great|sure|yes|wonderful))\b",
    _I,
)
_SAYINGS = re.compile(
    r"\b(?:made of money|eat a horse|dying (?:of|to)|all ears|(?:a )?(?:million|thousand|hundred)"
    r" times|(?:brain|head|heart|mind) (?:is )?(?:melting|exploding|hurts|blown|spinning)"
    r"|queen of|broken record|on my nerves|nothing better to do|just love (?:being|it when"
    r"|waiting|when)|my (?:goodness|god|word|bad|mistake|fault|pleasure|apologies)\b"
    r"|see what i mean|you(?:'re| are) right|out of my mind)",
    _I,
)
_STATES = (
    r"tired|hungry|thirsty|bored|sleepy|cold|hot|busy|confused|lost|stuck|excited|happy|sad|angry"
    r"|annoyed|exhausted|impressed|surprised|sorry|sure|fine|good|ok|okay|glad|ready|done|back|here"
    r"|afraid|curious|listening|joking|kidding|certain|pleased|grateful|thankful|wondering|asking"
    r"|right|wrong|serious|interested|amazed|disappointed|frustrated|worried|late|free"
)
_NOW = re.compile(
    rf"^{_AM} (?:(?:so|very|really|quite|a bit|a little|just|not|all|too|pretty|still|always) )*"
    rf"(?:(?:{_STATES})(?:\W*$|,| (?:right now|now|today|that|about (?:that|this|it|your)|to|for"
    rf"|with (?:that|this|you)|you|i|if|whether|of (?:you|that)|in (?:that|this))\b)"
    r"|(?:looking|reading|typing|sitting|trying|talking|thinking|waiting|clicking|telling"
    r"|seeing|hearing|speaking to you|testing|doing|using (?:this|that|it|you))\b"
    r"|getting (?:an?|the|this|no) (?:\w+ )?(?:error|message|warning)|having (?:some "
    r"|a )?(?:trouble"
    r"|problems?|issues?|fun)|(?:going|off|about) to (?:bed|sleep|eat|lunch|dinner|ask|go|try|say"
    r"|leave)\b|on (?:it|the phone)\b|in a (?:hurry|meeting)\b|at the (?:door|screen)\b)",
    _I,
)
_TALK = re.compile(
    r"^(?:i (?:think so|guess|mean|agree|disagree|suppose|hope|wonder|believe so|hear|appreciate"
    r"|assume|bet|doubt|promise|beg|thought|gather|reckon)\b"
    r"|i (?:really |truly |just )?(?:see|know|understand)(?:\W*$|[,;]| (?:that|what|how|why|now"
    r"|it|you)\b)|i (?:really|truly) appreciate"
    r"|i (?:don'?t|didn'?t|do not|did not|can'?t|cannot|couldn'?t|won'?t) (?:know|understand|think"
    r"|care|mind|get (?:it|that|what)|see|remember|believe|hear|find|follow|mean|say|ask|catch"
    r"|want (?:that|this|it)|need (?:that|this|it)|want you|like (?:that|this|it|your))\b"
    r"|i have (?:no (?:idea|clue|time|problem|questions?|choice|words)|(?:a|an|another"
    r"|one(?: more)?"
    r"|some|to (?:go|say|admit|ask)) ?(?:quick )?(?:questions?|requests?|problem with|idea|favou?r"
    r"|suggestion|feeling)?(?:\W*$|\b(?:for|with|about|question)))"
    r"|i(?:'ve| have) (?:got )?(?:a|another|one(?: more)?|some) (?:quick )?(?:question|request)s?"
    r"|i (?:just |already |only )?(?:said|meant|asked|told you|typed|clicked|pressed|tried"
    r"|mentioned|explained)\b|i (?:got|read|did|checked|opened|installed|restarted|saw|found|like"
    r"|love|hate|prefer(?! it when you)|enjoy|want|need|loved|liked) (?:it|that|this|them|these"
    r"|your|the way you"
    r"|how you|the (?:answer|idea|first|second|third|last|other|new) ?(?:one|answer|idea|version"
    r"|option)?\W*$|when you)\b"
    r"|(?:i|we)(?:'ll| will| shall) (?:be (?:right )?back|think|try|check|see|let you|do (?:that|it"
    r"|so)|take (?:a look|that|it|the)|have a look|go with|wait|tell you|ask|get back|look)\b"
    r"|(?:i|we) (?:was|were) (?:just )?(?:about|asking|wondering|talking|saying|thinking|hoping"
    r"|looking|trying|joking|kidding)\b"
    r"|i(?:'d| would) (?:like|love) (?:you )?to (?:know|ask|hear|see|talk)"
    r"|i(?:'d| would) (?:like|love|appreciate) (?:you|an?|some|the)\b"
    r"|i (?:want|need|wanted) (?:you\b|to (?:know|ask|see|hear|find|talk|check)"
    r"|(?:an?|the|some) (?:\w+ ){0,2}(?:list|summary|answer|poem|recipe|joke|script|function|idea"
    r"|ideas|explanation|example|command|version|help|advice|translation|plan|overview|story"
    r"|suggestion|table|picture|reply|draft|break|moment|minute)\b|help|(?:more|less) \w+\W*$)"
    r"|let'?s\b|let me\b|my (?:question|point|idea|guess) (?:is|was)\b"
    r"|my (?:workspace|file|folder|code(?! name)|script|program|function|query|prompt|message"
    r"|input|screen"
    r"|text|example|sentence|previous|last (?:question|message))\b"
    r"|we (?:are|were) talking\b|we (?:should|can|could) (?:try|do|use|stop|go)\b"
    r"|never ?mind\b|nice \w+ we\b)",
    _I,
)
# What is at hand (a text, code, a game, a screen), or said to whom one talks: of no use later.
_WORK = (
    r"(?:function|loop|regex|code|script|query|variable|build|tests?|spreadsheet|essay|draft|prompt"
    r"|paragraph|sentence|title|attempt|answer|output|browser|terminal|cursor|mouse|download|upload"
    r"|container|server|commit|branch|program|command|table|hero|villain|wizard|protagonist|avatar"
    r"|character|story|novel|plot|chapter)"
)
_ORDER = r"(?:first|second|third|last|next|other|previous|main|current|new|old)"
_AT_HAND = re.compile(
    rf"^(?:my|our) (?:{_ORDER} )?{_WORK}\b(?! (?:name|review|number|is due))"
    r"|\b(?:in|on|at) (?:line|page|step|level|row|column|question|chapter|paragraph|cell) \d"
    r"|\bthe (?:first|second|third|last|next|other|same) (?:one|file|line|part|question|step|option"
    r"|version|paragraph|thing|output|answer|error|message|result|thought|log|code|text|section)\b"
    r"|^(?:i|we) (?:\w+ ){0,2}(?:see|seeing|get|got|getting|have|had) (?:an? |the |this |that |no "
    r"|some )?(?:\w+ ){0,2}(?:errors?|warning|bug(?! \w*phobia)|exception|blank page|traceback"
    r"|exit code|output"
    r"|message|versions? of the|columns? in)\b"
    r"|^(?:i|we) (?:need|want|have)(?: an?| the)? (?:\w+ ){0,3}(?:synonyms?|examples?|titles?"
    r"|headlines?|sentences|words|bullet points?|options|suggestions|slides|rhymes?)\b"
    r"|\b(?:below|above)\W*$|\bhalfway through\b",
    _I,
)
_TO_YOU = re.compile(r"\b(?:you|your|yours|yourself|you're|you've|you'll|you'd)\b", _I)
_ANSWERS = re.compile(
    r"\b(?:prefer|rather|always|never|favou?rite|when you (?:answer|write|speak|reply|explain))\b",
    _I,
)
_FLEETING = re.compile(
    r"\b(?:right now|at the moment|for now|just now|a (?:minute|second|moment) ago|in a (?:minute"
    r"|second|moment|sec))\b"
    r"|^(?:i|we)(?:'ve| have)? just (?:woke|got (?:home|back(?! from)|up|in|here)|sat|arrived"
    r"|tried|checked"
    r"|finished|opened|closed|saw|heard|read|ate|had|sent|noticed|realised|realized|dropped"
    r"|spilled|pasted|ran)\b"
    r"|^(?:i|we)(?:'m|'re| am| are) (?:going to (?:grab|get|have|make|try|take|see|check)|heading"
    r"|on my way|waiting|stuck|leaving|walking|driving|about)\b"
    r"|^(?:i|we)(?:'ll| will) (?:take|have|use|keep|pick|choose|start|stop)\b"
    r"|^(?:i|we) (?:give up|swear|bet|keep (?:getting|seeing|telling|saying|asking|hearing|trying"
    r"|reading)|pasted|attached|copied|laughed|ran (?:it|the)|was (?:expecting|this close|just)"
    r"|were on|(?:could|can)(?:n'?t| not|not) (?:agree|care|believe|wait|stop)|can (?:skip|leave|go"
    r"|move|stop|try)|(?:didn't|did not) expect|have been (?:over|through) (?:this|that))\b",
    _I,
)
_MINE = re.compile(r"\b(?:i|i'm|im|i've|ive|i'd|i'll|my|mine|we|we're|we've|we'll|our|ours)\b", _I)
_DOES = re.compile(
    r"^(?:i|we)(?:'?(?:m|re|ve|d|ll))?\s+(?:\w+\s+){0,8}?\w+|^(?:my|our)\s+\w+.*\s\S"
    r"|^(?:(?:last|this|next|every|in|on|at|since|when|after|before|yesterday|today|tomorrow|for|as"
    r"|most|during|both|all|one|some|two|three|four) .{0,60}?"
    r"\b(?:i|we|my|our)(?:'(?:m|re|ve|d|ll))?\s+\w+)"
    r"|^[\w' ]{1,40} (?:is|are) (?:my|our) (?:new )?favou?rite\b",
    _I,
)
_NAME = (
    r"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?(?!(?:It|That|This|There|Here|What|He|She|They|You|Your|The|An?"
    r"|Everything|Nothing|Something|Everyone|Nobody|Somebody|No|Yes|Please|Let|Sonia|These"
    r"|Those|One|Some|All|Today|Tomorrow)\b)[A-Z][\w\-]+(?: and [A-Z][\w\-]+)?"
)
_WHO = (
    r"friends?|colleagues?|neighbou?rs?|nurse|teacher|doctor|boss|manager|lawyer|engineer|student"
    r"|cardiologist|dentist|vegetarian|vegan|baby|pilot|cousin|twins?|musician|cook|chef"
)
_OF_A_PERSON = re.compile(
    rf"^{_NAME}(?:'s (?:birthday|name|number|recipe|address|husband|wife|son|daughter|dog|cat|car"
    r"|phone|email|school|job|boss|mother|father|sister|brother|favou?rite|flight|appointment|room"
    r"|anniversary|diet|party|wedding|train|house|flat)(?: \w+)?)?"
    rf"(?:'s)? (?:(?:just|now|also|always|never|recently|usually|still|finally) )*(?:"
    r"(?:is|are|was|were|'s) (?:(?:now|also|still|just|really) )*(?:my|our|allergic|vegan"
    r"|vegetarian|pregnant|married|engaged|divorced|left-handed|diabetic|coming|visiting|moving"
    r"|\d+ years|retired|in hospital|on holiday|afraid|scared|learning|born|ill|sick|turning"
    r"|getting married|on \S|in \S+ (?:until|from)|called|blind|deaf|back|away"
    rf"|an? (?:\w+ )?(?:{_WHO})\b)"
    r"|(?:lives?|works?|likes?|loves?|hates?|prefers?|moved|stud(?:y|ies|ied)|plays?|speaks?"
    r"|turns?|uses?|needs?|starts?|goes|owns?|plans|wants|lost|bought|died|visits?|drinks?|eats?"
    r"|can't|cannot|doesn't|got|went|became|retired|graduated|called|drives?|has (?:an?|two|three"
    r"|just|asthma|moved)|had (?:an?|twins))\s+\S)"
)
_AT_HOME = re.compile(
    r"^the (?:(?:spare|old|new|front|back|blue|red|house|car|alarm|gate|wifi|office|garage|safe"
    r"|our) )*(?:keys?|codes?|passwords?|alarm|wifi|car|cat|dog|kids|children|baby|plumber"
    r"|electrician|boiler|meeting|appointment|flight|train|party|wedding|dentist|doctor|landlord"
    r"|neighbou?rs?|safe|combination|deadline|rent|cleaner|gardener|builders?|movers|office"
    r"|shop|school"
    r"|gym)(?:'s name)?"
    r" (?:is|are|has|have|comes?|starts?|leaves?|ends?|opens?|closes?|arrives?|expires?"
    r"|moved to)\b(?! (?:long|over|boring|late|good|bad|nice|great)\b)",
    _I,
)
GOES_ON = re.compile(r"^(?:he|she|they|his|her|their|it|its)(?:'s|'re)?\s+\w+\s+\S", _I)

LIKES = re.compile(
    r"\b(?:like|likes|love|loves|hate|hates|prefer|prefers|enjoy|enjoys|adore|dislike|favou?rite"
    r"|can'?t stand|fond of|rather (?:have|not|be)|fan of|big on|don'?t (?:like|eat|drink|enjoy)"
    r"|never (?:eat|drink|use)|always (?:eat|drink|take|use)|liked|loved)\b"
    r"|^(?:please )?(?:from now on,? )?(?:call me|(?:always|never) \w+)\b",
    _I,
)
AHEAD = re.compile(
    r"^(?:i|we)(?:'ve| have)? (?:got to|need to|have to|must|ought to|promised to|want to be"
    r" reminded)\b|\b(?:appointment|meeting|exam|interview|deadline|flight|train|party|wedding"
    r"|check-?up|lesson)\b.{0,60}\b(?:tomorrow|tonight|next|on|at|in|before|leaves|is)\b"
    r"|\b(?:has|have) to go to\b|\b(?:tomorrow|next (?:week|month|year|\w+day))\b|\bexpires\b"
    r"|\bneeds? to be\b",
    _I,
)
HAPPENS = re.compile(
    r"\b(?:yesterday|today|tonight|last \w+|\w+ ago"
    r"|this (?:morning|afternoon|evening|week|weekend|month|year)"
    r"|(?:in|on) (?:january|february|march|april|may|june|july|august|september|october"
    r"|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday"
    r"|spring|summer|autumn|winter|(?:19|20)\d\d)"
    r"|(?:i|we) (?:just |finally )?(?:went|met|bought|visited|saw|started|finished|adopted"
    r"|lost|found|broke|sold|got|quit|left|ate|watched|passed|failed))\b",
    _I,
)
LASTS = re.compile(
    r"\b(?:since|born|moved|live|lives|living|work|works|graduated|married|has|have been|am|'m"
    r"|is called|no longer|anniversary|birthday|always|usually|every)\b",
    _I,
)
VITAL = re.compile(
    r"\b(?:allerg\w+|intoleran\w+|asthma|diabet\w+|epilep\w+|pacemaker|blood type|medication"
    r"|insulin"
    r"|metformin|pregnant|heart condition|hard of hearing|colou?r-?blind|my name|call me|pronouns"
    r"|emergency|coeliac|celiac)\b",
    _I,
)
_CODE = re.compile(
    r"^\s*(?:traceback|def |class |import |from \w+ import|select .{0,200}\bfrom\b|https?://"
    r"|error[:\[]"
    r"|warning:|\$ |>>> |#include|function |const |let \w+ =|var |<\w+|\{|dear (?:sir|madam|mr"
    r"|mrs|ms|customer|team|friend)\b)",
    _I,
)


def pasted(text: str) -> bool:
    """Code, a trace, a letter: something that was put in, not said."""
    return _CODE.match(text) is not None or sum(map(text.count, "{};=")) > 2 + len(text) // 40


def asked_to_keep(said: str) -> str | None:
    """What the person asked to have remembered, as a statement; none when they did not ask."""
    if to_do := TO_DO.match(said):
        return f"I need to {to_do['what'].strip().rstrip('.')}."
    asked = ASKED.match(said)
    return asked["what"].strip().rstrip("?").strip() or None if asked else None


def is_told(said: str) -> bool:
    """Whether the sentence says that something is so, of the person or their people."""
    if _FAVOURITE_QUOTE.match(said):
        return True
    spoken = _SPAN.sub(" ", said)
    if any(refuse.search(spoken) for refuse in (_QUESTION, _SUPPOSED, _SAYINGS, _NOW, _TALK)):
        return False
    if _QUOTES.search(said) or _of_the_moment(spoken):
        return False
    about_me = _MINE.search(spoken) is not None and _DOES.match(spoken) is not None
    return about_me or any(of.match(said) for of in (_OF_A_PERSON, _AT_HOME))


def _of_the_moment(spoken: str) -> bool:
    """Whether it is about what is at hand, or to the one who listens, and not about a life."""
    if _AT_HAND.search(spoken) or _FLEETING.search(spoken):
        return True
    return _TO_YOU.search(spoken) is not None and _ANSWERS.search(spoken) is None
