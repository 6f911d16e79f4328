/** A text for those who have none at hand: a ship's log, whose manner shows after a minute of learning. */

const WINDS = ["north", "north-west", "south", "west", "south-east"];
const SEAS = ["calm as a plate", "rough, with white heads", "long and slow", "short and angry"];
const SIGHTS = [
  "two gulls and a drifting plank",
  "a whale to starboard, who looked at us and went",
  "no sail all day",
  "ice far off, blue in the evening",
  "a brig under full canvas that did not answer",
  "the light of the cape, low and red",
];
const WORKS = [
  "The carpenter mended the pump.",
  "We washed the lower deck and dried the bread.",
  "The boy learnt three new knots.",
  "New rope on the foremast.",
  "Counted the barrels: eleven.",
];
const ENDS = ["All hands well.", "One man with a cold; the rest well.", "The cook sings again.", "Lamps out at nine."];

/** Sixty days, no two alike. */
export function shipsLog(): string {
  const day = (i: number): string => {
    const of = (list: readonly string[], step: number): string => list[(i * step + (i >> 2)) % list.length] ?? "";
    const miles = 40 + ((i * 37) % 130);
    return [
      `Day ${i + 1}. Wind ${of(WINDS, 3)}, sea ${of(SEAS, 5)}. Made ${miles} miles.`,
      `Seen: ${of(SIGHTS, 5)}. ${of(WORKS, 2)} ${of(ENDS, 3)}`,
    ].join(" ");
  };
  return `${Array.from({ length: 60 }, (_, i) => day(i)).join("\n\n")}\n`;
}
