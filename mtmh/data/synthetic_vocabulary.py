"""The words that the synthetic world's titles are made of: twelve L1 topics of eight L2 topics
each.

Everyday words that a text encoder knows to belong together. No word of a topic's list is in the
topic's name, so that a title is about its topic without spelling it.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

TOPICS: dict[str, dict[str, str]] = {
    "Food": {
        "Baking": "sourdough rye crust flour oven croissant dough brioche yeast loaf",
        "Coffee": "espresso roast arabica latte barista grinder crema mocha brew beans",
        "Barbecue": "brisket smoker ribs charcoal pulled-pork hickory grill marinade sausage"
        " embers",
        "Sushi": "nigiri wasabi salmon-roll tuna sashimi nori soy-sauce miso tempura maki",
        "Desserts": "chocolate caramel tiramisu pudding gelato sprinkles custard meringue frosting"
        " truffle",
        "Vegan Cooking": "tofu lentils chickpeas kale tempeh hummus quinoa oat-milk cashew seitan",
        "Wine": "merlot vineyard cork riesling cellar tannins grapes chardonnay decanter sommelier",
        "Street Snacks": "taco empanada falafel dumpling cart kebab churro samosa noodles skewer",
    },
    "Sports": {
        "Football": "goalkeeper penalty striker offside midfield corner-kick dribble header league"
        " referee",
        "Tennis": "serve backhand racket clay-court volley deuce wimbledon baseline topspin ace",
        "Running": "marathon sprint jog pace treadmill 10k finish-line sneakers stride"
        " half-marathon",
        "Cycling": "peloton derailleur saddle pedal gravel-bike velodrome handlebar spokes"
        " breakaway chainring",
        "Swimming": "freestyle butterfly-stroke goggles lap pool backstroke diver chlorine"
        " breaststroke flip-turn",
        "Climbing": "bouldering carabiner belay crag chalk rope summit harness overhang granite",
        "Basketball": "dunk rebound three-pointer hoop layup buzzer-beater point-guard jump-shot"
        " assist playoffs",
        "Skiing": "slalom powder chairlift alpine snowboard mogul apres-ski slope binding piste",
    },
    "Travel": {
        "Beach Holidays": "lagoon palm sunscreen snorkel hammock island sandcastle resort surf"
        " seashell",
        "City Breaks": "skyline metro rooftop cathedral museum-pass hostel old-town boulevard tram"
        " sightseeing",
        "Safari": "lion savanna giraffe jeep rhino elephant-herd serengeti zebra binoculars"
        " waterhole",
        "Camping": "tent campfire sleeping-bag lantern marshmallow backpack firewood trailhead"
        " stove stargazing",
        "Train Journeys": "railway sleeper-car locomotive platform conductor viaduct carriage"
        " timetable tunnel station",
        "Cruises": "deck cabin harbor captain fjord ocean-liner buffet port gangway lifeboat",
        "Road Trips": "highway diner motel gas-station detour playlist route-66 windshield roadside"
        " map",
        "Air Travel": "airport boarding-pass runway layover pilot turbulence window-seat jet-lag"
        " lounge suitcase",
    },
    "Music": {
        "Jazz": "saxophone swing bebop trumpet improvisation upright-bass coltrane quartet"
        " blue-note big-band",
        "Hip Hop": "rapper freestyle-verse turntable sampler mixtape rhyme emcee breakbeat cypher"
        " boom-bap",
        "Classical": "symphony violin concerto orchestra sonata mozart cello conductor's-baton"
        " chamber oboe",
        "Rock": "electric-guitar riff drummer amplifier distortion encore punk stadium-tour"
        " power-chord headbang",
        "Electronic": "synthesizer techno dj dance-floor house-beat bassline rave drum-machine"
        " trance modular",
        "Folk": "banjo acoustic ballad fiddle harmonica mandolin songwriter bluegrass accordion"
        " dulcimer",
        "Opera": "soprano aria tenor libretto verdi baritone overture la-scala mezzo curtain-call",
        "Choir": "hymn harmony alto gospel a-cappella chorus sopranos-and-altos cantata chant"
        " vocal",
    },
    "Home": {
        "Gardening": "tulip compost pruning seedlings rosebush trowel tomatoes mulch greenhouse"
        " perennials",
        "Interior Design": "sofa wallpaper curtains minimalist rug armchair color-palette cushions"
        " chandelier mirror",
        "Woodworking": "chisel lathe plywood sawdust dovetail oak planer varnish workbench walnut",
        "Cleaning": "vacuum mop detergent spotless bleach dusting sponge stain laundry scrub",
        "Plumbing": "faucet pipe leak wrench drain toilet boiler valve gasket showerhead",
        "Houseplants": "monstera succulent fern potting-soil cactus ficus watering-can orchid"
        " philodendron windowsill",
        "Storage": "closet shelves declutter drawer labels wardrobe boxes pantry hooks baskets",
        "Smart Living": "thermostat voice-assistant doorbell robot-vacuum sensor led-bulbs"
        " automation hub remote plug",
    },
    "Science": {
        "Astronomy": "telescope galaxy nebula comet orbit saturn eclipse supernova black-hole"
        " jupiter",
        "Chemistry": "molecule acid catalyst periodic-table beaker polymer reaction isotope"
        " titration solvent",
        "Genetics": "dna chromosome mutation genome inheritance crispr gene cell-nucleus sequencing"
        " twins",
        "Dinosaurs": "fossil tyrannosaurus jurassic raptor excavation triceratops cretaceous"
        " skeleton amber extinction",
        "Oceans": "coral whale plankton tide submarine octopus trench reef kelp jellyfish",
        "Weather": "tornado thunderstorm forecast barometer rainfall hurricane lightning snowfall"
        " cloud heatwave",
        "Mathematics": "theorem prime-number geometry proof calculus equation fractal algebra"
        " probability pi",
        "Volcanoes": "lava magma eruption crater ash-plume basalt geyser pumice caldera hotspot",
    },
    "Technology": {
        "Smartphones": "touchscreen android iphone charger app selfie battery-life notch ringtone"
        " sim-card",
        "Programming": "python debugger compiler javascript algorithm source-code refactor git loop"
        " unit-test",
        "Robotics": "actuator drone gripper servo humanoid exoskeleton arduino autonomous"
        " assembly-arm lidar",
        "Video Games": "console speedrun joystick boss-fight multiplayer respawn quest pixel"
        " esports minecraft",
        "Photography": "lens shutter tripod aperture portrait exposure darkroom bokeh dslr filter",
        "Cybersecurity": "password phishing firewall hacker malware encryption ransomware"
        " two-factor breach vpn",
        "3D Printing": "filament nozzle extruder resin layer-height slicer build-plate prototype"
        " cad pla",
        "Audio Gear": "headphones loudspeaker subwoofer earbuds vinyl-player microphone preamp"
        " cable hi-fi amplifier",
    },
    "Animals": {
        "Dogs": "puppy retriever leash bark beagle fetch poodle paw kennel labrador",
        "Cats": "kitten purr whiskers litter-box siamese tabby catnip scratching-post meow feline",
        "Birds": "parrot owl feather nest finch eagle canary migration hummingbird beak",
        "Horses": "stallion gallop pony stable bridle dressage mare hoof foal jockey",
        "Reptiles": "gecko python-snake turtle iguana chameleon terrarium lizard scales crocodile"
        " tortoise",
        "Aquariums": "goldfish guppy tank water-filter betta cichlid tetra shrimp aquascape algae",
        "Insects": "bee butterfly ant-colony beetle dragonfly hive honey caterpillar moth ladybug",
        "Farm Life": "tractor goat barn chicken-coop sheep cow harvest piglet hay milking",
    },
    "Style": {
        "Makeup": "lipstick mascara eyeliner foundation blush concealer eyeshadow contour lip-gloss"
        " palette",
        "Hair": "braid shampoo curls fringe blow-dry balayage ponytail bob scalp conditioner",
        "Sneaker Culture": "jordans high-tops laces limited-drop resale yeezy colorway sole collab"
        " shoebox",
        "Skincare": "moisturizer serum retinol sunscreen-cream acne face-mask toner pores cleanser"
        " hyaluronic",
        "Jewelry": "necklace diamond earrings bracelet pearl goldsmith engagement-ring pendant"
        " gemstone brooch",
        "Tailoring": "suit lapel needle hem tweed buttonhole waistcoat pinstripe cuff bespoke",
        "Perfume": "fragrance jasmine musk sandalwood vanilla-note bergamot cologne patchouli scent"
        " oud",
        "Nails": "manicure gel-polish cuticle acrylics glitter-coat pedicure file french-tip"
        " lacquer press-ons",
    },
    "Money": {
        "Investing": "stocks dividend portfolio index-fund bonds bull-market etf compound-interest"
        " broker volatility",
        "Crypto": "bitcoin blockchain ethereum wallet token miner stablecoin halving ledger"
        " altcoin",
        "Saving": "budget piggy-bank frugal coupon emergency-fund envelope thrift receipts"
        " allowance no-spend",
        "Real Estate": "mortgage landlord down-payment open-house condo realtor escrow foreclosure"
        " lease square-feet",
        "Startups": "founder pitch-deck venture seed-round unicorn incubator equity runway-months"
        " pivot bootstrapped",
        "Taxes": "deduction refund irs filing w-2 accountant audit capital-gains withholding"
        " bracket",
        "Careers": "resume interview promotion salary recruiter cover-letter internship linkedin"
        " mentor job-offer",
        "Retirement": "pension 401k nest-egg annuity social-security golden-years withdrawal"
        " retiree grandkids will",
    },
    "Health": {
        "Yoga": "downward-dog vinyasa namaste stretch mat sun-salutation warrior-pose breathwork"
        " lotus flexibility",
        "Nutrition": "protein vitamins fiber calories omega-3 macros supplements antioxidants"
        " meal-plan minerals",
        "Sleep": "insomnia pillow melatonin nap mattress snoring dreams bedtime circadian rem",
        "Weightlifting": "deadlift barbell squat bench-press dumbbell hypertrophy kettlebell reps"
        " biceps spotter",
        "Meditation": "mindfulness silence mantra stillness zen awareness calm retreat inner-peace"
        " incense",
        "Dentistry": "toothbrush floss braces cavity gums enamel whitening-strips molar mouthwash"
        " retainer",
        "Pregnancy": "midwife newborn trimester ultrasound morning-sickness due-date baby-bump"
        " delivery prenatal doula",
        "First Aid": "bandage cpr tourniquet defibrillator burn-wound splint sprain antiseptic"
        " choking ambulance",
    },
    "Culture": {
        "Film Noir": "detective femme-fatale shadows trenchcoat bogart alley private-eye murder"
        " cigarette double-cross",
        "Poetry": "sonnet haiku stanza verse rhyming-couplet metaphor anthology laureate ode elegy",
        "Painting": "watercolor canvas easel impressionist monet brushstroke fresco palette-knife"
        " oil still-life",
        "Theater": "stage playwright rehearsal shakespeare monologue costume footlights understudy"
        " matinee applause",
        "Archaeology": "pharaoh pyramid pottery tomb mummy hieroglyphs ruins bronze-age artifact"
        " mosaic",
        "Comics": "superhero graphic-novel manga speech-bubble batman sidekick inker villain cape"
        " panels",
        "Magic": "card-trick illusionist wand rabbit-hat sleight-of-hand houdini levitation"
        " conjurer mentalist top-hat",
        "Chess": "checkmate grandmaster bishop rook opening-gambit endgame pawn knight-fork"
        " castling stalemate",
    },
}

TOPICS_PER_L1 = 8
N_TOPICS = len(TOPICS) * TOPICS_PER_L1

PLAIN = (
    "quiet early tiny favorite forgotten honest simple late bright slow winter summer lucky perfect"
    " second cheap strange brave daily little secret wild gentle sunday weekend midnight old new"
    " first rainy"
)

# {a}, {b}, {d}: words of the item's L2 topics; {c}: a word of another L2 topic of the same L1; {g}:
# a plain word
TEMPLATES = (
    "{a}, {b} and {d}",
    "{g} {a} with {b} and {d}",
    "{a} meets {b} and {c}",
    "my {g} {a} and {b} diary",
    "why {a} beats {b} every time",
    "from {c} to {a} and {b}",
    "ten {g} ideas about {a}",
    "{g} {a} after {b}",
    "before you try {a} and {b}",
    "{a}, {d} and a {g} {b}",
)


def names() -> tuple[np.ndarray, np.ndarray]:
    """Names of the L1 topics [12] and the L2 topics [96]; L2 topic t belongs to L1 topic t // 8."""
    return np.array(list(TOPICS)), np.array([name for below in TOPICS.values() for name in below])


def sibling(topic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another L2 topic of the same L1 topic."""
    below = (topic + rng.integers(1, TOPICS_PER_L1, size=len(topic))) % TOPICS_PER_L1
    return topic // TOPICS_PER_L1 * TOPICS_PER_L1 + below


def topic_lists(level: Literal["l1", "l2"], first: np.ndarray, second: np.ndarray) -> pa.Array:
    """The names of two L2 topics an item, or of their L1 topics; one where both are the same."""
    if level == "l1":
        first, second = first // TOPICS_PER_L1, second // TOPICS_PER_L1
    both = np.stack([first, second], axis=1)
    is_listed = np.stack([np.ones(len(first), bool), first != second], axis=1)
    offsets = np.concatenate([[0], np.cumsum(is_listed.sum(1))]).astype(np.int32)
    level_names = names()[0 if level == "l1" else 1]
    return pa.ListArray.from_arrays(offsets, pa.array(level_names[both[is_listed]]))


def titles(
    first: np.ndarray, second: np.ndarray, sibling: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """One title an item, of str; its words come from the L2 topics `first`, `second` ({b}),
    `sibling` ({c}).
    """
    lines = [line for below in TOPICS.values() for line in below.values()]
    table = np.char.replace(np.array([line.split() for line in lines]), "-", " ")
    count, choices = len(first), table.shape[1]
    a = rng.integers(choices, size=count)
    # Three different words, should the topics be the same.
    step = rng.integers(1, choices // 2, size=count)
    parts = {
        "{a}": table[first, a],
        "{b}": table[second, (a + step) % choices],
        "{c}": table[sibling, rng.integers(choices, size=count)],
        "{d}": table[first, (a + 2 * step) % choices],
        "{g}": rng.choice(PLAIN.split(), size=count),
    }
    result = rng.choice(TEMPLATES, size=count)
    for mark, word in parts.items():
        result = np.char.replace(result, mark, word)
    return np.char.capitalize(result)
