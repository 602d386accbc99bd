// gifenc ships no types; these are the parts we call. Under Node it is a CommonJS package: only its default import works.
declare module "gifenc" {
  /** `[red, green, blue]` per entry, 0 to 255. */
  export type Palette = number[][];
  export type PixelFormat = "rgb565" | "rgb444" | "rgba4444";

  export interface FrameOptions {
    readonly palette?: Palette;
    readonly transparent?: boolean;
    readonly transparentIndex?: number;
    /** Milliseconds; the format stores hundredths of a second. */
    readonly delay?: number;
    /** -1 plays once, 0 for ever. */
    readonly repeat?: number;
    /** -1 leaves the choice to the encoder. */
    readonly dispose?: number;
  }

  export interface Encoder {
    writeFrame(indexed: Uint8Array, width: number, height: number, options?: FrameOptions): void;
    finish(): void;
    bytes(): Uint8Array;
  }

  interface Gifenc {
    GIFEncoder(options?: { readonly initialCapacity?: number }): Encoder;
    /** Chooses at most `maxColors` colours for RGBA pixels. */
    quantize(
      rgba: Uint8Array | Uint8ClampedArray,
      maxColors: number,
      options?: { readonly format?: PixelFormat },
    ): Palette;
    /** One palette index per RGBA pixel; the format has to be the one `quantize` had. */
    applyPalette(rgba: Uint8Array | Uint8ClampedArray, palette: Palette, format?: PixelFormat): Uint8Array;
  }

  const gifenc: Gifenc;
  export default gifenc;
}
