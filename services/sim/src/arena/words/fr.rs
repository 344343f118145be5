//! French texts, all invented.

use super::Words;

pub(super) const WORDS: Words = Words {
    thoughts: &[
        "{name} relève une date, un chiffre et trois adverbes : deux de trop. Crédit accordé : {n} sur 5.",
        "À première lecture, {name} trouve l'histoire bien habillée. Trop, peut-être. Crédit accordé : {n} sur 5.",
        "{name} a déjà entendu pire, et de gens plus sérieux. Crédit accordé : {n} sur 5.",
        "Rien ne prouve que c'est faux, note {name}, qui souligne « prouve ». Crédit accordé : {n} sur 5.",
    ],
    speeches: [
        &[
            "**Chers voisins de table**, {name} ici. On nous sert « {title} » comme on sert un plat sous cloche.",
            "**Écoutez-moi une minute**, foi de {name}, une seule : « {title} », voilà tout ce que l'on sait.",
            "**Je commence par la fin** : moi, {name}, je ne signerai pas. Pas encore. « {title} », dit-on.",
        ],
        &[
            "Soulevons la cloche : une source qui se cite elle-même, un expert sans prénom, un graphique sans axe. Je ne réclame pas la vérité, je réclame l'adresse où l'on peut la vérifier.",
            "Qui gagne si nous y croyons ? Qui perd si nous rions ? Posez les deux questions dans cet ordre, puis dans l'autre : vous verrez que {other} a déjà choisi son camp.",
            "Je veux bien être convaincu, à condition que l'on me laisse le temps d'être difficile. Le doute n'est pas une opinion, c'est un délai. Je demande un délai.",
        ],
        &[
            "Et si je me trompe, que ce soit à voix haute. 🕯️",
            "Que {other} me réponde, je l'attends avec une chaise. 🪑",
            "Le reste, c'est du papier peint. 🧻",
        ],
    ],
    revisions: &[
        "Après {other}, je bouge d'un pas : la forme tient, le fond boite toujours. Crédit : {n} sur 5.",
        "{other} parle bien, ce qui m'inquiète. Je garde mon avis et je l'écris au crayon. Crédit : {n} sur 5.",
        "J'avais tort sur un détail, j'ai raison sur l'ensemble ; {name} reste à sa place. Crédit : {n} sur 5.",
        "Nous voilà quatre à douter de choses différentes : c'est presque un accord. Crédit : {n} sur 5.",
    ],
    phases: ["Phase 1 : réflexion", "Phase 2 : tribune", "Phase 3 : réexamen", "Phase 4 : scrutin"],
    done: "Phase {n} terminée",
    eliminated: "{name} a quitté la table au tour {round}.",
    present: "À table : {names}",
};
