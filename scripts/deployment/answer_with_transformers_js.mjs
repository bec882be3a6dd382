// Compare the answers of transformers.js with those in answers.jsonl.
// node answer_with_transformers_js.mjs FOLDER QUANTIZATION REQUIRED
// FOLDER/QUANTIZATION holds the model; REQUIRED=1 ends with exit code 1 if an answer differs.
import fs from "fs";
import path from "path";
import { AutoProcessor, PaliGemmaForConditionalGeneration, RawImage, env } from "@huggingface/transformers";

const [folder, quantization, required] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = `${folder}/`;
const processor = await AutoProcessor.from_pretrained(quantization);
const model = await PaliGemmaForConditionalGeneration.from_pretrained(quantization, {
  device: "cpu",
  session_options: { intraOpNumThreads: 1 },
});

const lines = fs.readFileSync(path.join(folder, "answers.jsonl"), "utf8").trim().split("\n").map(JSON.parse);
const equal = {};
for (const line of lines) {
  const image = await RawImage.read(line.image);
  const inputs = await processor(image.rgb(), `<image>${line.prompt}`);
  const output = await model.generate({ ...inputs, max_new_tokens: 40, do_sample: false });
  const tokens = output.slice(null, [inputs.input_ids.dims[1], null]);
  const [text] = processor.batch_decode(tokens, { skip_special_tokens: false });
  const task = line.prompt.split(" ")[0];
  equal[task] ??= [0, 0];
  equal[task][0] += text.replace(/<eos>$/, "") === line.answer;
  equal[task][1] += 1;
}
const sum = (index) => Object.values(equal).reduce((total, counts) => total + counts[index], 0);
const bytes = fs.readdirSync(path.join(folder, quantization, "onnx"))
  .reduce((total, file) => total + fs.statSync(path.join(folder, quantization, "onnx", file)).size, 0);
const tasks = Object.entries(equal).map(([task, [same, all]]) => `${task} ${same} of ${all}`).join(", ");
console.log(`${path.basename(folder)}, ${quantization} (${(bytes / 1e6).toFixed(2)} MB): `
  + `${sum(0)} of ${sum(1)} answers identical (${tasks})`);
process.exit(required === "1" && sum(0) !== sum(1) ? 1 : 0);
