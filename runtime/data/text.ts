/**
 * Words to vectors without a trained model: hashed n-grams, the same on every machine.
 *
 * Every feature (a word, a pair of words, a few letters) owns a fixed vector of +1 and -1, taken from the bits of a hash
 * of its name; two of them are nearly orthogonal. A token is the sum of the vectors of its word, of the word's letters
 * and of the word at its place; a caption's pooled vector is the sum of its words and word pairs. Both have a
 * root mean square of 1. It knows no synonyms; what it tells apart, it tells apart reliably.
 */

/** The arrays are shared with later calls: read them, do not write into them. */
export interface EncodedText {
  /** Per caption float32 [words, textDim]; at least one row, of zeros when there is no word. */
  readonly tokens: readonly Float32Array<ArrayBuffer>[];
  /** Per caption float32 [textDim]. */
  readonly pooled: readonly Float32Array<ArrayBuffer>[];
}

export interface TextEncoder {
  /** As output names it. */
  readonly name: string;
  readonly textDim: number;
  readonly encode: (captions: readonly string[]) => Promise<EncodedText>;
}

export const BUILT_IN_ENCODER = "built-in hashed n-grams";

/** Words that hold a sentence together and hardly change what is to be seen. */
const STOP_WORDS: ReadonlySet<string> = new Set(
  "a an the this that of in on at to over with and or is are it its as for from by".split(" "),
);
/** Words that nearly every caption of a video has: at full weight they would make all captions alike. */
const FRAME_WORDS: ReadonlySet<string> = new Set(
  "moving moves move background scene video clip picture image shot view there".split(" "),
);

const STOP_WEIGHT = 0.2;
const FRAME_WEIGHT = 0.4;
/** Pairs tell "red circle, blue square" from "blue circle, red square"; single words have to stay in front. */
const PAIR_WEIGHT = 0.35;
/** The letters make "move" and "moving" neighbours. */
const LETTERS_WEIGHT = 1;
const PLACE_WEIGHT = 0.4;
const LONGEST_GRAM = 3;

export function builtInTextEncoder(textDim: number): TextEncoder {
  // Captions come back every epoch.
  const known = new Map<string, EncodedCaption>();
  const encodeOne = (caption: string): EncodedCaption => {
    const before = known.get(caption);
    if (before !== undefined) return before;
    const words = wordsOf(caption);
    const encoded = { tokens: encodeTokens(words, textDim), pooled: encodePooled(words, textDim) };
    if (known.size >= CAPTIONS_KEPT) known.clear();
    known.set(caption, encoded);
    return encoded;
  };
  return Object.freeze({
    name: BUILT_IN_ENCODER,
    textDim,
    encode: async (captions: readonly string[]) => {
      const encoded = captions.map(encodeOne);
      return { tokens: encoded.map(({ tokens }) => tokens), pooled: encoded.map(({ pooled }) => pooled) };
    },
  });
}

interface EncodedCaption {
  readonly tokens: Float32Array<ArrayBuffer>;
  readonly pooled: Float32Array<ArrayBuffer>;
}

const CAPTIONS_KEPT = 8192;

/** Lower-case runs of letters and digits; in scripts that leave no spaces every character is a word. */
export function wordsOf(caption: string): string[] {
  return caption.normalize("NFKC").toLowerCase().match(WORD) ?? [];
}

const UNSPACED = "\\p{sc=Han}\\p{sc=Hiragana}\\p{sc=Katakana}\\p{sc=Thai}";
const WORD = new RegExp(`[${UNSPACED}]|(?:(?![${UNSPACED}])[\\p{L}\\p{M}\\p{N}])+`, "gu");

function encodeTokens(words: readonly string[], textDim: number): Float32Array<ArrayBuffer> {
  const rows = new Float32Array(Math.max(words.length, 1) * textDim);
  words.forEach((word, place) => {
    const row = rows.subarray(place * textDim, (place + 1) * textDim);
    addFeature(row, `word ${word}`, 1);
    addFeature(row, `place ${place} ${word}`, PLACE_WEIGHT);
    const grams = gramsOf(word);
    for (const gram of grams) addFeature(row, `letters ${gram}`, LETTERS_WEIGHT / Math.sqrt(grams.length));
    scaleToUnit(row);
  });
  return rows;
}

function encodePooled(words: readonly string[], textDim: number): Float32Array<ArrayBuffer> {
  const sum = new Float32Array(textDim);
  for (const word of words) addFeature(sum, `word ${word}`, weightOf(word));
  // Pairs skip stop words: "moving over the field" and "moving over a field" are one pair.
  const content = words.filter((word) => !STOP_WORDS.has(word));
  for (let i = 1; i < content.length; i++) addFeature(sum, `pair ${content[i - 1]} ${content[i]}`, PAIR_WEIGHT);
  return scaleToUnit(sum);
}

function weightOf(word: string): number {
  if (STOP_WORDS.has(word)) return STOP_WEIGHT;
  return FRAME_WORDS.has(word) ? FRAME_WEIGHT : 1;
}

/** All runs of 1 to 3 letters of `^word$`, the marks telling beginnings and ends from middles. */
function gramsOf(word: string): string[] {
  const letters = Array.from(`^${word}$`);
  const grams: string[] = [];
  for (let length = 1; length <= LONGEST_GRAM; length++) {
    for (let start = 0; start + length <= letters.length; start++) {
      grams.push(letters.slice(start, start + length).join(""));
    }
  }
  return grams;
}

/** Adds `weight` times the feature's vector of +1 and -1. */
function addFeature(sum: Float32Array, feature: string, weight: number): void {
  const hash = hashText(feature);
  let signs = 0;
  for (let i = 0; i < sum.length; i++) {
    if (i % 32 === 0) signs = mixBits(hash + Math.imul(i / 32 + 1, 0x9e3779b9));
    sum[i]! += signs & 1 ? weight : -weight;
    signs >>>= 1;
  }
}

/** FNV-1a over UTF-16 units. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}

/** The final mix of MurmurHash3: each bit of the input changes each bit of the output half of the time. */
function mixBits(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** To a root mean square of 1; zeros stay zeros. */
function scaleToUnit(row: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  let squares = 0;
  for (const value of row) squares += value * value;
  const scale = squares === 0 ? 0 : Math.sqrt(row.length / squares);
  for (let i = 0; i < row.length; i++) row[i]! *= scale;
  return row;
}
