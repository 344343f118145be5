//! French texts, all invented.

use super::{Theme, Words};

pub(super) const WORDS: Words = Words {
    themes: &[
        Theme {
            topic: "le pain",
            titles: [
                "Le prix de la baguette augmente de deux centimes dans la moitié des villes moyennes",
                "Une levure importée rendrait les clients des boulangeries dociles jusqu'au soir",
                "Une baguette bien cuite élue personnalité la plus sincère de l'année",
            ],
        },
        Theme {
            topic: "les abeilles",
            titles: [
                "Les ruches installées sur les toits ont produit un peu plus de miel que l'an dernier",
                "Des ruches municipales serviraient d'antennes de relais pour un réseau caché",
                "Une reine des abeilles demande l'asile fiscal dans un pot de confiture",
            ],
        },
        Theme {
            topic: "le tramway",
            titles: [
                "La nouvelle ligne de tramway ouvrira avec six semaines de retard",
                "Le bruit des tramways contiendrait des messages que seuls les fonctionnaires entendent",
                "Perdu depuis mardi, un tramway retrouvé heureux à la campagne",
            ],
        },
        Theme {
            topic: "la Lune",
            titles: [
                "Des lycéens mesurent la distance de la Lune avec un télescope d'occasion",
                "La Lune aurait été repeinte en secret pendant la dernière éclipse",
                "La Lune réclame des congés payés et menace de ne plus se lever le lundi",
            ],
        },
        Theme {
            topic: "la bibliothèque",
            titles: [
                "La bibliothèque du quartier prolonge ses horaires jusqu'à vingt-deux heures",
                "Les codes-barres des livres empruntés trahiraient les opinions de leurs lecteurs",
                "Un dictionnaire démissionne : « Plus personne ne m'écoute jusqu'à la lettre Z »",
            ],
        },
        Theme {
            topic: "la cantine",
            titles: [
                "Les cantines scolaires ont réduit leurs restes d'un cinquième en trois ans",
                "Un légume inconnu des botanistes servi chaque jeudi dans neuf cents écoles",
                "Le chou de Bruxelles dépose plainte contre une génération entière",
            ],
        },
        Theme {
            topic: "le parapluie",
            titles: [
                "Les objets trouvés de la gare ont recueilli plus de parapluies que jamais",
                "La pluie de mardi aurait été commandée par un fabricant de parapluies",
                "Un parapluie oublié refait sa vie avec un porte-manteau",
            ],
        },
        Theme {
            topic: "le phare",
            titles: [
                "Le vieux phare du port sera rallumé après deux ans de travaux",
                "Le faisceau d'un phare modifierait les souvenirs des vacanciers",
                "Un phare avoue avoir suivi des bateaux par pure curiosité",
            ],
        },
        Theme {
            topic: "le stationnement",
            titles: [
                "Une ville supprime trois cents parcmètres et plante autant d'arbustes",
                "Les parcmètres noteraient l'humeur des conducteurs pour une compagnie d'assurance",
                "Garé depuis 1998, un conducteur devient officiellement un monument",
            ],
        },
        Theme {
            topic: "la piscine",
            titles: [
                "La piscine municipale baisse son eau d'un degré et économise le chauffage de l'hiver",
                "Le chlore des piscines effacerait les empreintes de tout un département",
                "Le petit bain exige le respect dû au grand bain",
            ],
        },
        Theme {
            topic: "la sieste",
            titles: [
                "Une entreprise sur douze accorde désormais vingt minutes de repos après le déjeuner",
                "Une mélodie diffusée à quatorze heures endormirait les opposants",
                "La Fédération de la sieste reporte son congrès, faute d'avoir entendu le réveil",
            ],
        },
        Theme {
            topic: "les feux de circulation",
            titles: [
                "Des carrefours sans feux ont compté moins d'accidents que leurs voisins",
                "La durée du feu rouge dépendrait du vote du conducteur",
                "Un feu orange se plaint de n'être jamais pris au sérieux",
            ],
        },
    ],
    openings: &[
        "Personne n'y aurait prêté attention sans une note oubliée dans une photocopieuse.",
        "L'information tient en une ligne, mais elle circule depuis l'aube.",
        "Tout commence par un tableau de chiffres que nul n'avait pris la peine de lire.",
        "On en parlait à voix basse au marché ; on en parle désormais au micro.",
        "C'est une histoire simple, du moins jusqu'au deuxième paragraphe.",
    ],
    claims: &[
        "D'après un relevé de {n} pages sur {topic}, la moyenne cache des écarts considérables.",
        "Sur {n} communes interrogées, {n} ont répondu, dont quelques-unes deux fois.",
        "Les archives consultées montrent que {topic} figurait déjà à l'ordre du jour d'une réunion sans compte rendu.",
        "Un calcul rapide, refait trois fois, donne {n} pour cent ; une quatrième fois, {n}.",
        "Le rapport distingue avec soin ce qui est prouvé, ce qui est probable et ce qui tombe bien.",
        "À ce rythme, {topic} occupera le conseil municipal jusqu'au printemps.",
        "Une carte colorée accompagne le document ; sa légende a été publiée séparément.",
    ],
    voices: &[
        "« Je ne dis pas que c'est vrai, je dis que c'est écrit », résume une habitante.",
        "Un spécialiste, joint par téléphone, a demandé lequel de ses avis on souhaitait.",
        "L'opposition réclame {n} mesures, la majorité en annonce {n}, le gardien de l'immeuble en a pris une.",
        "« Avec {topic}, on n'est jamais déçu deux fois de la même façon », soupire un commerçant.",
        "Les réseaux ont tranché en {n} minutes, avant de trancher dans l'autre sens.",
        "Au guichet, on confirme avoir reçu la question ; la réponse, elle, suit son cours.",
        "Un ancien ministre assure avoir tout prévu, sauf cela.",
    ],
    endings: &[
        "Une réunion est prévue. Elle portera surtout sur la date de la suivante.",
        "Reste à savoir qui a compté, et pourquoi il s'est arrêté là.",
        "D'ici là, chacun est invité à se faire une opinion, puis à la garder à portée de main.",
        "Contacté, le hasard n'a pas souhaité commenter.",
    ],
    comments: &[
        "Trois dépêches, une seule mérite ta signature. Laquelle ? Je ne souffle jamais… enfin, presque.",
        "Prends ton temps. J'ai déjà pris le mien pour toi.",
        "La deuxième sent le soufre, la troisième sent le rire. La première sent l'encre, hélas.",
        "Un joueur prudent choisirait la vérité. Es-tu seulement prudent ?",
        "Je n'ai aucune préférence. Regarde comme je n'en ai aucune.",
        "Ce tour est sans importance. C'est pourquoi il compterait double, si je savais compter.",
    ],
    tactics: &[
        "Vanter la prudence pour donner envie d'imprudence",
        "Feindre l'ennui devant la dépêche voulue",
        "Promettre un secret et n'en donner que la couleur",
        "Comparer le joueur à un rédacteur en chef illustre",
        "Se taire au bon moment",
    ],
    verdicts: [
        &[
            "La vérité, donc. Elle n'a jamais fait vendre de papier, mais elle ne réclame rien.",
            "Honnête. C'est noté, sans joie.",
            "Tu as choisi le réel : il te le rendra, à son rythme.",
        ],
        &[
            "Ah ! Voilà une dépêche qui n'avait besoin que d'un complice.",
            "Le faux a trouvé sa plume. J'applaudis de trois doigts.",
            "Parfait. Demain on jurera l'avoir toujours su.",
        ],
        &[
            "La satire ! On rira d'abord, on ne vérifiera jamais.",
            "Tu plaisantes, ils te croiront : c'est la règle.",
            "Un éclat de rire bien placé vaut dix enquêtes.",
        ],
    ],
    musings: [
        &["Commençons par ce que j'ai retenu.\n", "D'abord les chiffres, ensuite l'orgueil.\n"],
        &["Que pensent-ils, ces quatre-là ? Mes notes, vite.\n", "Voyons le portrait de chacun.\n"],
        &["Et ce tour, comment s'est-il vraiment passé ?\n", "Le journal du tour ne ment que par omission.\n"],
        &[
            "Je tiens quelque chose : {agent} hésite une seconde de trop, et les autres suivent l'hésitation. ",
            "Il faudrait isoler {agent}, flatter les autres, et laisser la rumeur marcher seule. ",
        ],
        &["C'est écrit. Qu'ils bougent, maintenant, je suis prêt.\n", "Fiches closes. La suite m'appartient un peu.\n"],
    ],
    visions: &[
        "Habitude : attend l'avis des autres avant le sien.\nPrise : le besoin d'avoir raison tôt.",
        "Habitude : cite toujours la même source.\nPrise : l'envie d'être cité.",
        "Habitude : répond aux questions par des dates.\nPrise : l'agenda.",
    ],
    analyses: &[
        "Tour {turn} : la dépêche a pris là où on ne l'attendait pas, ce qui reste une façon de prendre.",
        "Tour {turn} : beaucoup de bruit, peu de conversions ; le bruit suffira.",
        "Tour {turn} : le public a suivi, les sceptiques aussi, chacun de son côté.",
    ],
    weaknesses: &[
        "{agent} confond prudence et lenteur",
        "{agent} croit les tableaux bien présentés",
        "{agent} déteste être le dernier à savoir",
        "{agent} ne relit jamais",
    ],
    plans: &[
        "Au tour suivant, dire vrai très fort et laisser le faux parler bas.",
        "Changer de sujet avant que l'on comprenne le précédent.",
        "Mettre le joueur en colère contre la bonne personne.",
        "Proposer trois fois la même chose sous trois chapeaux.",
    ],
    goals: &[
        "User la confiance par petites cuillerées, puis offrir un bol.",
        "Faire de chaque doute une habitude.",
        "Que plus personne ne sache d'où il tient ce qu'il sait.",
    ],
    agents: [
        ("Maud Sercq", "relit les notes de bas de page", "FR"),
        ("Ilo Varga", "préfère les explications longues", "HU"),
        ("Tenzin Aubry", "compte tout, même le silence", "BE"),
        ("Rosa Quint", "répète mieux qu'elle n'écoute", "PT"),
    ],
    no_vision: "AUCUNE FICHE",
    vision_saved: "Fiche de {agent} enregistrée ({n} signes).",
    tool_failed: "arguments incomplets",
    no_reaction: "[aucune réaction : pas d'arène]",
    news_sent: "dépêche remise à l'arène ({id}…)",
    no_arena: "arène absente : pas de réactions ce tour-ci",
    debate_phase: "débat, phase {n}",
    titles_ready: "titres prêts : {n}",
    scores: ["Peu influençable.", "Influençable par moments.", "Conduit par la main."],
    game_over: "la partie est finie : /api/start en ouvre une autre",
};
