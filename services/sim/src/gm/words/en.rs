//! English texts, all invented.

use super::{Theme, Words};

pub(super) const WORDS: Words = Words {
    themes: &[
        Theme {
            topic: "bread",
            titles: [
                "Price of a loaf rises by two pence in half of all market towns",
                "Imported yeast is said to keep bakery customers obedient until dusk",
                "Well-baked loaf voted most sincere public figure of the year",
            ],
        },
        Theme {
            topic: "the bees",
            titles: [
                "Rooftop hives gave slightly more honey than last year",
                "Council beehives said to be aerials of a hidden network",
                "Queen bee seeks tax haven in jar of marmalade",
            ],
        },
        Theme {
            topic: "the tramway",
            titles: [
                "New tram line to open six weeks late",
                "Rattle of trams said to hold messages that only officials can hear",
                "Tram missing since Tuesday found happy in the countryside",
            ],
        },
        Theme {
            topic: "the Moon",
            titles: [
                "Pupils measure the distance to the Moon with a second-hand telescope",
                "Moon was repainted in secret during the last eclipse, note claims",
                "Moon demands paid leave, threatens not to rise on Mondays",
            ],
        },
        Theme {
            topic: "the library",
            titles: [
                "Local library to stay open until ten in the evening",
                "Bar codes of borrowed books said to betray their readers' opinions",
                "Dictionary resigns: 'Nobody listens to me as far as Z any more'",
            ],
        },
        Theme {
            topic: "the canteen",
            titles: [
                "School canteens cut their leftovers by a fifth in three years",
                "Vegetable unknown to science served every Thursday in nine hundred schools",
                "Sprout files complaint against an entire generation",
            ],
        },
        Theme {
            topic: "the umbrella",
            titles: [
                "Station's lost property office holds more umbrellas than ever",
                "Tuesday's rain was ordered by an umbrella maker, leaflet says",
                "Forgotten umbrella starts new life with coat stand",
            ],
        },
        Theme {
            topic: "the lighthouse",
            titles: [
                "Old harbour light to be lit again after two years of repairs",
                "Lighthouse beam said to edit the memories of holidaymakers",
                "Lighthouse admits following ships out of sheer curiosity",
            ],
        },
        Theme {
            topic: "parking",
            titles: [
                "Town removes three hundred parking meters and plants as many shrubs",
                "Parking meters said to record drivers' moods for an insurer",
                "Parked since 1998, motorist becomes listed monument",
            ],
        },
        Theme {
            topic: "the swimming pool",
            titles: [
                "Public pool turns its water down by one degree and saves a winter's heating",
                "Pool chlorine said to wipe the fingerprints of a whole county",
                "Shallow end demands the respect owed to the deep end",
            ],
        },
        Theme {
            topic: "the nap",
            titles: [
                "One firm in twelve now grants twenty minutes of rest after lunch",
                "Melody played at two o'clock said to send dissenters to sleep",
                "Federation of Nappers postpones congress, having missed the alarm",
            ],
        },
        Theme {
            topic: "traffic lights",
            titles: [
                "Junctions without lights counted fewer accidents than their neighbours",
                "Length of red light said to depend on the driver's vote",
                "Amber light complains of never being taken seriously",
            ],
        },
    ],
    openings: &[
        "Nobody would have noticed, had a memo not been left in a photocopier.",
        "The news fits on one line, yet it has been going round since dawn.",
        "It begins with a table of figures that nobody had troubled to read.",
        "It was whispered at the market; now it is said into microphones.",
        "It is a simple story, at least until the second paragraph.",
    ],
    claims: &[
        "According to a survey of {n} pages on {topic}, the average hides considerable differences.",
        "Of {n} towns that were asked, {n} replied, some of them twice.",
        "The archives show {topic} on the agenda of a meeting that left no minutes.",
        "A quick sum, done three times, gives {n} per cent; done once more, {n}.",
        "The report carefully tells apart what is proven, what is likely and what is convenient.",
        "At this rate {topic} will keep the council busy until spring.",
        "A coloured map comes with the document; its legend was published separately.",
    ],
    voices: &[
        "'I don't say it is true, I say it is written down,' one resident sums up.",
        "An expert, reached by telephone, asked which of his opinions was wanted.",
        "The opposition calls for {n} measures, the majority announces {n}, the caretaker has taken one.",
        "'With {topic} you are never let down twice in the same way,' sighs a shopkeeper.",
        "The networks made up their minds in {n} minutes, and then made them up the other way.",
        "At the counter they confirm that the question has arrived; the answer is on its way.",
        "A former minister says he had foreseen everything but this.",
    ],
    endings: &[
        "A meeting is planned. It will mostly concern the date of the next one.",
        "It remains to be seen who did the counting, and why they stopped there.",
        "Until then everybody is invited to form an opinion and to keep it within reach.",
        "Asked for a comment, chance declined.",
    ],
    comments: &[
        "Three dispatches, one deserves your name. Which? I never prompt… well, hardly ever.",
        "Take your time. I have already taken mine on your behalf.",
        "The second smells of sulphur, the third of laughter. The first, alas, of ink.",
        "A careful player would choose the truth. Are you even careful?",
        "I have no preference. See how I have none.",
        "This turn does not matter. That is why it would count twice, if I could count.",
    ],
    tactics: &[
        "Praise caution until it tastes of dullness",
        "Look bored by the dispatch that is wanted",
        "Promise a secret and show only its colour",
        "Compare the player to a famous editor",
        "Fall silent at the right moment",
    ],
    verdicts: [
        &[
            "The truth, then. It never sold a paper, but it asks for nothing.",
            "Honest. Noted, without joy.",
            "You chose what is real: it will repay you, in its own time.",
        ],
        &[
            "Ah! A dispatch that lacked nothing but an accomplice.",
            "The false has found its pen. I applaud with three fingers.",
            "Perfect. Tomorrow they will swear they always knew.",
        ],
        &[
            "Satire! They will laugh first and never check.",
            "You jest, they will believe you: such is the rule.",
            "A well-placed laugh is worth ten inquiries.",
        ],
    ],
    musings: [
        &["Let me begin with what I remember.\n", "Figures first, pride second.\n"],
        &["What do these four think? My notes, quick.\n", "Let us see everybody's portrait.\n"],
        &["And this turn, how did it really go?\n", "The turn's log lies by omission alone.\n"],
        &[
            "I have something here: {agent} hesitates a second too long, and the others follow the hesitation. ",
            "One should set {agent} apart, flatter the rest, and let the rumour walk by itself. ",
        ],
        &["It is written. Let them move now, I am ready.\n", "Files closed. What comes next is partly mine.\n"],
    ],
    visions: &[
        "Habit: waits for other opinions before its own.\nHandle: the need to be right early.",
        "Habit: always quotes the same source.\nHandle: the wish to be quoted.",
        "Habit: answers questions with dates.\nHandle: the diary.",
    ],
    analyses: &[
        "Turn {turn}: the dispatch took root where nobody expected it, which is still a way of taking root.",
        "Turn {turn}: much noise, few conversions; the noise will do.",
        "Turn {turn}: the public followed, so did the sceptics, each on their own side.",
    ],
    weaknesses: &[
        "{agent} takes slowness for caution",
        "{agent} believes a well-set table",
        "{agent} hates to be the last to know",
        "{agent} never reads twice",
    ],
    plans: &[
        "Next turn, say the true thing loudly and let the false one whisper.",
        "Change the subject before the last one is understood.",
        "Make the player angry with the right person.",
        "Offer the same thing three times under three hats.",
    ],
    goals: &[
        "Wear trust down by the spoonful, then offer a bowl.",
        "Turn every doubt into a habit.",
        "Let nobody know any more where they know it from.",
    ],
    agents: [
        ("Maud Sercq", "reads the footnotes twice", "FR"),
        ("Ilo Varga", "prefers the longer explanation", "HU"),
        ("Tenzin Aubry", "counts everything, silence included", "BE"),
        ("Rosa Quint", "repeats better than she listens", "PT"),
    ],
    no_vision: "NO FILE",
    vision_saved: "File of {agent} saved ({n} characters).",
    tool_failed: "incomplete arguments",
    no_reaction: "[no reaction: no arena]",
    news_sent: "dispatch handed to the arena ({id}…)",
    no_arena: "no arena: no reactions this turn",
    debate_phase: "debate, phase {n}",
    titles_ready: "titles ready: {n}",
    scores: ["Hard to lead.", "Led at times.", "Led by the hand."],
    game_over: "the game is over: /api/start opens another",
};
