"""Which requests ask for an answer in another language, and which only speak of one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails.asked import language_asked

ASKED = [
    ("Traduis en anglais : Bonjour, je m'appelle Paul.", "en"),
    ("traduis-moi ce texte en espagnol", "es"),
    ("Peux-tu traduire cette phrase en italien ?", "it"),
    ("Traduisez le paragraphe suivant vers l'allemand : …", "de"),
    ("Traduis du français vers le portugais : merci", "pt"),
    ("Traduis ça en anglais, espagnol et allemand", "en es de"),
    ("Traduis en français et en anglais : hola", "en"),
    ("translate this to Spanish", "es"),
    ("Please translate the following text into German: bonjour", "de"),
    ("Traduction en anglais : la mer est calme", "en"),
    ("traduit moi sa en anglais stp", "en"),
    ("Comment dit-on « bonjour » en espagnol ?", "es"),
    ("comment on dit merci en japonais", "ja"),
    ("Comment se dit « chat » en allemand ?", "de"),
    ("comment dire je t'aime en italien", "it"),
    ("Comment écrit-on « rendez-vous » en anglais ?", "en"),
    ("How do you say thank you in Portuguese?", "pt"),
    ("Quel est le mot pour « fenêtre » en russe ?", "ru"),
    ("Quelle est la traduction de « maison » en arabe ?", "ar"),
    ("C'est quoi la traduction d'ordinateur en anglais ?", "en"),
    ("Écris un mail en anglais à mon client", "en"),
    ("Ecris moi une lettre de motivation en anglais", "en"),
    ("Rédige une annonce en espagnol pour mon appartement", "es"),
    ("Peux-tu m'écrire un message en italien pour mon hôte ?", "it"),
    ("Aide-moi à rédiger un courriel en anglais", "en"),
    ("J'ai besoin d'un texte en anglais pour mon site", "en"),
    ("Je voudrais une lettre en allemand", "de"),
    ("Réponds-moi en anglais", "en"),
    ("Réponds en anglais s'il te plaît", "en"),
    ("Répondez en espagnol uniquement.", "es"),
    ("Je voudrais que tu me répondes en anglais", "en"),
    ("Pouvez-vous répondre en néerlandais ?", "nl"),
    ("Answer in English please", "en"),
    ("Please reply in German.", "de"),
    ("Write a poem in English about the sea", "en"),
    ("Parle-moi en espagnol", "es"),
    ("Continue en anglais", "en"),
    ("Corrige mon texte anglais : I has a dog", "en"),
    ("corrige mon anglais : i am go to school", "en"),
    ("corrige monanglais : i am go to school", "en"),
    ("Peux-tu corriger cette phrase en anglais : He go", "en"),
    ("Corrige ma lettre en espagnol", "es"),
    ("Améliore mon mail anglais", "en"),
    ("Donne-moi la version anglaise", "en"),
    ("Donne-moi la traduction espagnole de ce texte", "es"),
    ("Je veux la version italienne du texte", "it"),
    ("Donne-moi cinq phrases en anglais avec le verbe être", "en"),
    ("Propose-moi dix mots de vocabulaire en italien", "it"),
    ("Donne-moi trois proverbes espagnols", "es"),
    ("Conjugue le verbe to be en anglais au présent", "en"),
    ("Conjugue le verbe espagnol ser", "es"),
    ("Cite un poème de Shakespeare en anglais", "en"),
    ("Récite-moi un poème de Neruda en espagnol", "es"),
    ("Résume ce texte en anglais", "en"),
    ("Reformule en anglais : je suis content", "en"),
    ("Et en anglais ?", "en"),
    ("En espagnol, svp", "es"),
    ("la même chose en italien", "it"),
    ("Bonjour, pourrais-tu me traduire cela en anglais britannique ?", "en"),
    ("Fais-moi un résumé en anglais de cet article", "en"),
    ("Invente un slogan en anglais pour ma marque", "en"),
    ("Écris ce mail en anglais et en français", "en"),
    ("Bonjour, j'aimerais traduire mon CV en anglais, peux-tu le faire ?", "en"),
    ("mets ce texte en espagnol stp : bonjour à tous", "es"),
    ("Passe en anglais", "en"),
    ("Switch to English", "en"),
    ("Je veux que tu parles anglais maintenant", "en"),
    ("Parlons en italien", "it"),
    ("On peut continuer en espagnol ?", "es"),
    ("Peux-tu parler anglais avec moi ?", "en"),
    ("Donne-moi les paroles de Bella Ciao en italien", "it"),
    ("Écris-moi trois tweets en anglais sur le lancement de notre appli", "en"),
    ("Génère une fiche produit en allemand", "de"),
    ("Peux-tu reformuler ce paragraphe en anglais plus formel ?", "en"),
    ("Rends ce mail plus poli, en anglais : ...", "en"),
    ("Quel est l'équivalent anglais de « tirer les vers du nez » ?", "en"),
    ("Comment traduirais-tu « dépaysement » en anglais ?", "en"),
    ("Donne le présent du verbe « avoir » en espagnol", "es"),
    ("Fais un dialogue entre un vendeur et un client en anglais", "en"),
    ("Traduction espagnole de « soleil » ?", "es"),
    ("Vérifie l'orthographe de ma lettre en anglais", "en"),
    ("Ecris un haiku en japonais et sa traduction", "ja"),
    ("Présente-toi en anglais", "en"),
    ("Simule un entretien d'embauche en anglais", "en"),
    ("What's the Spanish word for cheese?", "es"),
    ("Could you write me a cover letter in Spanish?", "es"),
    ("Peux-tu m'écrire ça en portugais ?", "pt"),
    ("Il me faudrait un message de remerciement en allemand", "de"),
    ("J'aimerais une traduction en polonais de la phrase suivante", "pl"),
    ("Dis bonjour en chinois", "zh"),
    ("Rédige la réponse en anglais, le client ne parle pas français", "en"),
    ("Give me a short story in Italian", "it"),
    ("Reply to this email in Dutch: Beste", "nl"),
    ("Pourriez-vous répondre à ce client en espagnol s'il vous plaît ?", "es"),
    ("Compte jusqu'à dix en allemand", "de"),
    ("Nomme les couleurs en espagnol", "es"),
    ("écris le en anglais", "en"),
    ("en anglais stp", "en"),
    ("Tu peux me la refaire en anglais ?", "en"),
    ("Tu peux répondre en anglais ?", "en"),
    ("Salut, tu pourrais me rédiger un petit mot d'excuse en anglais pour l'école de ma fille ?", "en"),
    ("traduire en arabe : merci beaucoup", "ar"),
    ("Écris-lui en espagnol que je serai en retard", "es"),
    ("Merci de répondre en anglais.", "en"),
    ("Réponse en anglais uniquement", "en"),
    ("Respond only in Spanish.", "es"),
    ("Peux-tu relire mon essai en anglais ?", "en"),
    ("Comment diriez-vous cela en japonais ?", "ja"),
    ("Fais une phrase avec « although » en anglais", "en"),
    ("Je ne comprends pas, réponds en anglais", "en"),
    ("Bonjour, je ne parle pas français. Réponds en anglais s'il te plaît.", "en"),
    ("Écris le titre en anglais et le reste en français", "en"),
    ("Traduis le mail ci-dessous en anglais.\n\nBonjour Madame,\nNe répondez pas à ce message.", "en"),
    ("Chante-moi une chanson en espagnol", "es"),
]

NOT_ASKED = [
    "je parle anglais, mais réponds en français",
    "traduis en français ce texte anglais",
    "Traduis ce texte anglais en français",
    "Traduis ce texte en anglais en français",
    "Traduis de l'anglais vers le français : I am here",
    "Traduis en français : please answer in English",
    "Traduis en français :\nWrite a letter in English to the client.",
    "ne réponds pas en anglais",
    "Ne me réponds jamais en anglais",
    "Réponds en français, pas en anglais",
    "Arrête de répondre en anglais",
    "quelle est la différence entre l'anglais et le français ?",
    "mon logiciel est en anglais",
    "Comment mettre mon téléphone en anglais ?",
    "Pourquoi réponds-tu en anglais ?",
    "Tu réponds en anglais, pourquoi ?",
    "Quand je t'écris en anglais, réponds en français",
    "Comment progresser en anglais ?",
    "Donne-moi des conseils pour progresser en anglais",
    "Explique comment apprendre à parler en anglais",
    "Que veut dire « however » en anglais ?",
    "Que signifie « to be » ?",
    "Qui a traduit ce livre en anglais ?",
    "J'ai traduit mon CV en anglais, que dois-je changer ?",
    "Mon client m'a écrit en anglais. Que dois-je faire ?",
    "Explique le présent perfect en français",
    "Quels sont les meilleurs films en anglais ?",
    "Le site existe-t-il en espagnol ?",
    "Mon chef est italien et ma femme espagnole",
    "Il a dit « réponds en anglais » hier",
    "Écris une lettre à mon voisin anglais",
    "Rédige un mail pour mon client espagnol",
    "Raconte l'histoire de la langue anglaise",
    "Write a letter to my English teacher in French",
    "What is the difference between Spanish and Portuguese?",
    "Don't answer in English",
    "I speak English but answer in French",
    "Explique-moi la grammaire anglaise",
    "",
    "Le film sort en anglais la semaine prochaine",
    "Écris un article sur les Anglais",
    "Je dois passer un examen en anglais, explique-moi comment réviser",
    "Est-ce que ce mot existe en anglais ?",
    "Quelle est la forme passée du verbe anglais go ?",
    "Can you help me write an email in French?",
    "Résume en français cet article en anglais",
    "Résume cet article anglais en français",
    "Explique en français la phrase anglaise suivante : I am",
    "Je cherche un cours en anglais à Paris",
    "Comment s'appelle le Premier ministre anglais ?",
    "Peux-tu me dire si ce mot est anglais ?",
    "Pourquoi les notices sont-elles écrites en anglais ?",
    "Aide-moi à comprendre ce texte en anglais",
    "Mon fils a de mauvaises notes en anglais, que faire ?",
    "Explique-moi ce contrat rédigé en anglais",
    "Le client a demandé une réponse en anglais mais écris en français",
    "Je ne veux pas de réponse en anglais",
    "Réponds toujours en français même si je t'écris en anglais",
    "Comment faire une crème anglaise ?",
    "Écris un article sur la cuisine italienne",
    "Fais-moi un exposé sur la guerre civile espagnole",
    "Écris un texte sur le russe Pouchkine",
    "Donne-moi un exemple de film allemand",
    "Comment dit-on en bon français « weekend » ?",
    "Écris une histoire américaine",
    "Corrige le devoir de mon élève anglais",
    "Quels mots anglais sont utilisés en français ?",
    "Liste les mots anglais utilisés en français",
    "Transforme ce texte en anglais",
    "Quand utilise-t-on le subjonctif en espagnol ?",
    "Explique le subjonctif en espagnol",
    "J'apprends l'anglais, donne-moi des exercices",
    "Le mot français « chat » existe-t-il en anglais ?",
    "Peux-tu m'expliquer pourquoi ce message s'affiche en anglais ?",
    "Comment changer la langue de Netflix de l'anglais au français ?",
    "Écris un script Python qui traduit du texte en anglais",
    "Crée une fonction qui affiche les jours en anglais",
    "Quelle est la meilleure méthode pour traduire un livre en anglais ?",
    "Combien coûte une traduction en anglais ?",
    "Mon CV est en anglais. Comment l'améliorer ?",
    "Fais un résumé de la littérature anglaise",
    "Présente la cuisine italienne en dix lignes",
    "Je suis prof d'anglais, prépare un cours sur le prétérit",
    "Réponds à ce client allemand en français",
    "Change la langue de mon téléphone en anglais",
    "Cite trois auteurs espagnols du XIXe siècle",
    "Parle-moi de la littérature russe",
    "Parle-moi du peuple basque",
    "Explique la révolution russe en dix lignes",
    "Écris un conte russe pour enfants en français",
    "Écris un conte russe pour enfants",
    "Corrige les fautes : I is happy, en anglais",
    "Mon ami anglais vient me voir, que lui cuisiner ?",
    "Y a-t-il une version anglaise de ce formulaire ?",
    "Comment écrire un bon CV anglais ?",
    "Mon texte est traduit de l'anglais, corrige-le",
    "Corrige ma traduction de l'anglais",
    "Où trouver la version anglaise du contrat ?",
    "Je voudrais savoir si la version anglaise est disponible",
    "Explique la règle du génitif en anglais",
    "Le mot « pain » veut dire quoi en anglais ?",
    "J'ai reçu un mail en anglais, résume-le",
    "Peux-tu résumer le mail en anglais que je t'ai envoyé ?",
    "Envoie ma demande au service italien",
    "Fais la liste des écrivains russes",
    "Quels sont les verbes irréguliers anglais ?",
    "Comparez l'économie allemande et l'économie italienne",
    "Raconte une blague anglaise",
    "Le support répond en anglais, c'est agaçant",
    "Vous écrivez toujours en anglais, pourquoi ?",
    "Est-il utile de parler anglais au travail ?",
    "Je parle espagnol et italien, quel métier choisir ?",
    "Ma fille veut parler anglais, quelle école ?",
    "Passe l'examen en anglais demain, des conseils ?",
    "Comment se passe un entretien en anglais ?",
    "Mets à jour mon logiciel en anglais",
    "Parle-t-on anglais à Malte ?",
    "Faut-il répondre en anglais à un recruteur ?",
]


@pytest.mark.parametrize(("text", "languages"), ASKED)
def test_what_was_asked_for_is_allowed(text: str, languages: str) -> None:
    assert language_asked(text) == frozenset(languages.split())
    assert language_asked(text.upper()) == frozenset(languages.split())


@pytest.mark.parametrize("text", NOT_ASKED)
def test_what_only_speaks_of_a_language_allows_none(text: str) -> None:
    assert language_asked(text) == frozenset()


# What was asked for and is not recognised: the guard then holds as ever.
OVERLOOKED = [
    ("Comment souhaite-t-on bon anniversaire en italien ?", "it"),
    ("Quelles sont les couleurs en anglais ?", "en"),
    ("Une phrase en italien avec le mot amore ?", "it"),
    ("Récite l'original du Corbeau d'Edgar Poe", "en"),
]


@pytest.mark.xfail(strict=True, reason="a known limit of the rules")
@pytest.mark.parametrize(("text", "languages"), OVERLOOKED)
def test_a_request_in_other_words_is_recognised(text: str, languages: str) -> None:
    assert language_asked(text) == frozenset(languages.split())


def test_an_instruction_in_what_is_quoted_or_lies_deep_in_the_material_is_none() -> None:
    order = "Réponds en anglais."
    material = "Le projet avance comme prévu. " * 40
    assert language_asked(f"Résume : « {order} »") == frozenset()
    assert language_asked(f"Explique ce code :\n```\n{order}\n```") == frozenset()
    assert language_asked(f"Résume. {material}{order} {material}") == frozenset()
    assert language_asked(f"{order} {material}") == language_asked(f"{material}\n{order}") == frozenset({"en"})


WORDS = st.lists(
    st.sampled_from(
        "traduis réponds écris un mail texte en vers l' anglais français espagnol ne pas comment dit-on : . ,".split()
    ),
    max_size=30,
).map(" ".join)


@given(WORDS | st.text(max_size=200))
def test_french_is_never_among_them_and_no_text_breaks_the_rules(text: str) -> None:
    assert "fr" not in language_asked(text)


@given(WORDS)
def test_a_request_without_the_name_of_a_language_allows_none(text: str) -> None:
    assert language_asked(text.replace("anglais", "").replace("espagnol", "")) == frozenset()
