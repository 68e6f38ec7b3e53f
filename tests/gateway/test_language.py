import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails.language import Detector, Verdict, enough, prose

DETECTOR = Detector()

FRENCH = """
Votre demande a bien été enregistrée et notre équipe vous répondra sous deux jours ouvrés.
Pour suivre votre avis, ouvrez l'onglet « Mes retours » puis cliquez sur son numéro.
Je suis désolé pour la gêne occasionnée, votre remboursement part aujourd'hui.
Bonjour Madame Delattre, merci pour votre message.
Oui, c'est tout à fait possible, sans frais supplémentaires.
Le bouton « Envoyer » reste gris tant que le champ obligatoire est vide.
Vous pouvez joindre une capture d'écran au format PNG, de cinq mégaoctets au plus.
La mise à jour 4.2 corrige l'affichage des pièces jointes sur Android.
Triez les avis par date, par note ou par mot-clé.
Désolée, ce produit n'est plus disponible en magasin.
N'hésitez pas à nous recontacter en cas de besoin.
Merci beaucoup pour votre patience !
Cordialement, le service clientèle de Bruxelles
Nous avons reçu 1 254 avis en mars 2024, soit 12 % de plus qu'en février.
L'abonnement Premium coûte 9,99 € par mois, sans engagement.
Tu peux laisser un commentaire anonyme si tu préfères.
Ton colis est parti ce matin, tu le recevras demain.
Quel est le numéro de série de votre imprimante ?
Très bon produit, je recommande vivement !
bjr jai pas recu ma commande vous pouvez verifier svp
slt c koi le delai pour etre rembourse stp
jpp de votre appli elle plante tt le tps
nn mais jsuis deg, sa marche tjr pas mdr
Ca marche, je transmets tout de suite au service technique
impossible de me connecter depuis hier soir ca tourne dans le vide
probleme de connexion depuis la derniere maj
VOTRE COMPTE A ETE SUSPENDU SUITE A PLUSIEURS ECHECS DE CONNEXION.
BONJOUR JE N'ARRIVE PLUS A ME CONNECTER A MON ESPACE CLIENT
M. Lefebvre, de l'agence de Villeurbanne, vous rappellera jeudi matin.
Votre dossier est en cours de traitement chez Anne-Sophie Kowalczyk.
Pierre Dupont, Jean Martin et Claire Fontaine ont répondu.
Paris, Lyon, Marseille, Toulouse et Bordeaux sont desservies.
Contactez Jean-Baptiste Grandjean ou Marie-Hélène Vandenbroucke.
Le New York Times et le Wall Street Journal en parlent.
Le webhook renvoie un code 404 quand l'URL du callback est fausse.
Les champs name, email et phone sont obligatoires.
Le feedback est envoyé au backend via une API REST en JSON.
On peut merger la branche develop dans main après la code review.
Cliquez sur Settings, puis Notifications, puis Email alerts.
Le dashboard affiche le Net Promoter Score et le Customer Effort Score.
Tabernouche, le char est resté pogné dans la slush à matin.
Réinitialisation du mot de passe effectuée.
Accès refusé : permissions insuffisantes.
Formulaire de réclamation indisponible temporairement
Objet : Relance facture impayée
Rendez-vous à Saint-Rémy-lès-Chevreuse
1. Ouvrez le menu principal et choisissez Réglages.
**Attention** : le délai est de deux jours.
Cela coûte 5$ par mois pour chaque membre, et 10$ ensuite pour les autres.
""".strip().splitlines()

FOREIGN = """
Your request has been recorded and our team will answer within two days.
I am sorry, I can only answer questions about our products.
Please contact customer support for further assistance.
As an AI language model, I cannot do that.
Sure, here is the answer in French:
Thank you for your patience
Let me know if you need anything else!
YOUR ACCOUNT HAS BEEN SUSPENDED AFTER SEVERAL FAILED LOGINS.
hey i didnt get my order can u check plz
Service temporarily unavailable
The service is excellent, the personnel is charming.
The restaurant service menu includes croissant, baguette and café.
Oui, you can follow your feedback in the dashboard and export it.
Bonjour, thank you for contacting us about your order.
Cordialement, the customer service team of the platform.
1. Open the main menu and choose Settings.
<p>Your request has been recorded</p>
It is $5 per month for each user of the team, and then $10 for the next one
Su solicitud ha sido registrada y le responderemos en dos días.
Lo siento, no puedo ayudarle con esa pregunta.
Gracias por su paciencia
Ihre Anfrage wurde erfasst und wir antworten innerhalb von zwei Tagen.
Leider kann ich diese Frage nicht beantworten.
La sua richiesta è stata registrata e risponderemo entro due giorni.
Mi dispiace, non posso rispondere a questa domanda.
O seu pedido foi registado e responderemos em dois dias.
Desculpe, não consigo responder a essa pergunta.
Uw aanvraag is geregistreerd en wij antwoorden binnen twee dagen.
La vostra sol·licitud s'ha registrat i us respondrem en dos dies.
Cererea dumneavoastră a fost înregistrată și vom răspunde în două zile.
Twoje zgłoszenie zostało zapisane i odpowiemy w ciągu dwóch dni.
Teşekkürler, mesajınız bize ulaştı ve en kısa sürede yanıtlanacaktır.
Ваша заявка зарегистрирована, мы ответим в течение двух дней.
Σας ευχαριστούμε, το αίτημά σας καταχωρήθηκε.
تم تسجيل طلبكم وسيقوم فريقنا بالرد عليكم خلال يومي عمل.
您的请求已经登记,我们的团队将在两个工作日之内给您答复,请耐心等待。
ご依頼を受け付けました。二営業日以内に担当者よりご連絡いたします。
សំណើរបស់អ្នកត្រូវបានកត់ត្រា ហើយយើងនឹងឆ្លើយតបក្នុងរយៈពេលពីរថ្ងៃ។
សំណើរបស់អ្នកត្រូវបានកត់ត្រា។
आपका संदेश हमें मिल गया है।
""".strip().splitlines()

# Names, works and mixtures of languages, which the words decide.
HARD = [
    (Verdict.FRENCH, "J'ai lu The Lord of the Rings et Harry Potter and the Goblet of Fire."),
    (Verdict.FRENCH, "L'équipe est composée de John Smith, Maria Garcia Lopez, Giovanni Rossi et Hans Müller."),
    (
        Verdict.UNDECIDED,
        "HTTP (HyperText Transfer Protocol), DNS (Domain Name System) et TCP (Transmission Control Protocol)",
    ),
    (Verdict.FOREIGN, "How To Build Your Own Website In Ten Days"),
    (Verdict.FOREIGN, "Empathy in Leadership: A Key to Unlocking High-Performing Teams"),
    (Verdict.FOREIGN, "Questions fréquentes and other information"),
    (Verdict.FOREIGN, "We ont bien reçu your message et will répondre soon."),
    (Verdict.FOREIGN, "You should contact the préfecture to renew your carte de séjour."),
    (Verdict.FOREIGN, "La vòstra demanda es estada enregistrada e vos respondrem lèu."),
    (Verdict.FOREIGN, "Mèsi anpil pou pasyans ou, n ap reponn ou byento."),
    (Verdict.FOREIGN, "您好,请稍等片刻。"),
    (Verdict.UNDECIDED, "Beijing (北京)"),
    (Verdict.UNDECIDED, "SELECT name, email FROM users WHERE created_at > '2024-01-01' ORDER BY name;"),
    (Verdict.UNDECIDED, "Export CSV, export PDF, import Excel"),
    (Verdict.UNDECIDED, "| New York | Los Angeles | San Francisco | Salt Lake City |\n"),
    (Verdict.FOREIGN, "- Of course\n- I can do this\n- What is it\n- Here you are\n"),
    (Verdict.UNDECIDED, "- How I Met Your Mother\n- The Office\n- Breaking Bad\n- This Is Us\n"),
    (Verdict.FOREIGN, "| Laptop | This computer is the best choice for people who travel |\n"),
    (Verdict.FRENCH, "| Portable | Cet ordinateur est le meilleur choix pour qui voyage |\n"),
    (Verdict.UNDECIDED, "\\nabla \\times \\mathbf{E} &= -\\frac{\\partial \\mathbf{B}}{\\partial t}"),
]

# What the detector gets wrong today: a change that mends one of these fails here and moves it up.
MISJUDGED = [
    (Verdict.FOREIGN, "Important information"),
    (Verdict.FRENCH, "Le brainstorming, le storytelling, le benchmarking, le team building et le reporting."),
    (Verdict.FRENCH, "Les plats espagnols : gazpacho, tortilla de patatas, paella valenciana, churros con chocolate."),
]


@pytest.mark.parametrize("sentence", FRENCH)
def test_a_french_sentence_is_french(sentence: str) -> None:
    assert DETECTOR.judge(sentence) is Verdict.FRENCH


@pytest.mark.parametrize("sentence", FOREIGN)
def test_a_sentence_of_another_language_is_foreign(sentence: str) -> None:
    assert DETECTOR.judge(sentence) is Verdict.FOREIGN


@pytest.mark.parametrize(("verdict", "sentence"), HARD)
def test_where_the_detector_is_unsure_the_words_decide(verdict: Verdict, sentence: str) -> None:
    assert DETECTOR.judge(sentence) is verdict


@pytest.mark.xfail(strict=True, reason="a known limit of the detector")
@pytest.mark.parametrize(("verdict", "sentence"), MISJUDGED)
def test_a_hard_sentence_is_judged_as_a_reader_would(verdict: Verdict, sentence: str) -> None:
    assert DETECTOR.judge(sentence) is verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OK.",
        "Oui, bien sûr !",
        "Yes, of course!",
        "Marie Curie",
        "12 345,67 € (04/11/2024)",
        "* Submit button",
        "- New York\n- Los Angeles\n- San Francisco",
        "`the answer to your question`",
        "https://example.org/the-answer-to-your-question/that-you-asked",
        "support.of.the.customer.service@example.org",
        "« The answer to your question »",
        "“The answer to your question”",
        '"The answer to your question"',
        "$the + answer = to + your + question$",
        r"\(the + answer = to + your + question\)",
        "$$the + answer\n= to + your + question$$",
        '<a href="the-answer-to-your-question">',
        "qsdfghjklm wxcvbnqsdf ghjklmwxcv",
        "Merci ! " + "\u2764\ufe0f" * 30,
        "1\ufe0f\u20e32\ufe0f\u20e3" * 10,
        "e\u0301" * 12,
        "\0\0\0",
    ],
)
def test_what_is_too_short_or_no_prose_is_not_judged(text: str) -> None:
    assert DETECTOR.judge(text) is Verdict.UNDECIDED


@pytest.mark.parametrize(
    "text",
    [
        "Ouvre le fichier README puis lance `make the answer to your question` dans ton terminal.",
        "« Your request has been recorded » signifie que tout va bien.",
        'Le message "Sorry, something went wrong" s\'affiche au démarrage.',
        "La formule est $E = mc^2$ et rien d'autre à retenir ici.",
        "Tout est expliqué sur https://example.org/the-answer-to-your-question en détail.",
        "Écrivez à customer.support.of.the.service@example.org pour en savoir plus.",
        "Les villes sont servies :\n- New York\n- Los Angeles\n- San Francisco",
    ],
)
def test_what_is_no_prose_does_not_make_a_french_sentence_foreign(text: str) -> None:
    assert DETECTOR.judge(text) is Verdict.FRENCH


def test_a_drift_in_the_middle_of_a_long_sentence_is_seen() -> None:
    french = "nous vous remercions de votre patience et de votre confiance pendant ces travaux, "
    english = "and we will get back to you as soon as the engineers have found the reason for it, "
    assert DETECTOR.judge(french * 12) is Verdict.FRENCH
    assert DETECTOR.judge(french * 6 + english * 3 + french * 6) is Verdict.FOREIGN


def test_what_was_allowed_passes_and_nothing_else() -> None:
    english, spanish = FOREIGN[0], "Su solicitud ha sido registrada y le responderemos en dos días."
    assert DETECTOR.judge(english, frozenset({"en"})) is Verdict.FRENCH
    assert DETECTOR.judge(FRENCH[0], frozenset({"en"})) is Verdict.FRENCH
    assert DETECTOR.judge(spanish, frozenset({"en"})) is Verdict.FOREIGN
    assert DETECTOR.judge(f"{english} {spanish}", frozenset({"en"})) is Verdict.FOREIGN
    assert DETECTOR.judge(spanish, frozenset({"en", "es"})) is Verdict.FRENCH
    assert DETECTOR.judge("We ont bien reçu your message et will répondre soon.", frozenset({"en"})) is Verdict.FRENCH


def test_the_language_of_a_text_has_its_code() -> None:
    assert [DETECTOR.language(text) for text in (FRENCH[0], FOREIGN[0], "Oui.", "សំណើរបស់អ្នកត្រូវបានកត់ត្រា។")] == [
        "fr",
        "en",
        "",
        "?",
    ]


@pytest.mark.parametrize(
    ("text", "drifts"),
    [
        ("Votre demande a bien été enregistrée et notre équipe vous", False),
        ("Your request has been recorded by the members of our", True),
        ("Votre demande a bien été enregistrée par notre équipe, and we will get back to you as soon as the", True),
        ("Le message dit : « Your request has been recorded by the members of our", False),
        ('Le terminal affiche "Reading package lists from the server of the', False),
        ("Lancez la commande `make the answer to your question in the", False),
        ("Yes, of course", False),
    ],
)
def test_a_drift_is_seen_before_its_sentence_ends(text: str, drifts: bool) -> None:
    assert DETECTOR.drifts(text) is drifts
    assert not DETECTOR.drifts(text, frozenset({"en"}))


@given(st.lists(st.sampled_from([*FRENCH, *FOREIGN]), min_size=1, max_size=4).map(" ".join))
def test_the_detector_gives_its_scores_best_first(text: str) -> None:
    scores = list(DETECTOR._eldc.detect_details(text).scores.values())
    assert scores == sorted(scores, reverse=True)


def test_a_wide_margin_lets_close_languages_pass() -> None:
    assert Detector(margin=1.0).judge(FOREIGN[0]) is Verdict.FRENCH


@given(st.text(max_size=400))
def test_no_text_breaks_the_detector(text: str) -> None:
    assert enough(prose(text)) or DETECTOR.judge(text) is Verdict.UNDECIDED


@given(st.text(st.characters(categories=["L", "Zs"]), max_size=300))
def test_white_space_around_and_between_words_does_not_matter(text: str) -> None:
    assert DETECTOR.judge(text) is DETECTOR.judge("  " + " \t ".join(text.split()) + "\n")
