// The camera, where the browser offers one (https or this machine): a picture, or answers while it looks.

import { predict } from "./api.js";
import { byId, percent, show, shown } from "./text.js";

const PAUSE = 150; // ms between two live frames
const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it for this page, and open it again.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is used by another program.",
};

// take([{ file, name }]); model(): the name of the chosen one.
export function makeCamera(take, model) {
  if (!navigator.mediaDevices?.getUserMedia) return;
  const [opener, dialog, video, problem] = ["camera-open", "camera", "video", "camera-problem"].map(byId);
  const [shoot, live, said] = ["shoot", "live", "live-answer"].map(byId);
  let stream = null;
  let taken = 0;
  show(opener, true);

  opener.addEventListener("click", async () => {
    show(problem, false);
    dialog.showModal();
    try {
      const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (!dialog.open) return stopTracks(opened); // closed while the browser was asking
      stream = opened;
      video.srcObject = stream;
      await video.play();
      shoot.disabled = false;
    } catch (error) {
      problem.textContent = REASONS[error.name] ?? `The camera cannot be used: ${error.message}`;
      show(problem, true);
    }
    return undefined;
  });

  dialog.addEventListener("close", () => {
    stopTracks(stream);
    stream = null;
    video.srcObject = null;
    shoot.disabled = true;
    live.checked = false;
    show(said, false);
  });

  shoot.addEventListener("click", async () => {
    const file = await frame(video);
    taken += 1;
    dialog.close();
    take([{ file, name: `camera-${taken}.jpg` }]);
  });

  live.addEventListener("change", async () => {
    show(said, live.checked);
    said.textContent = "looking …";
    while (live.checked && dialog.open) {
      if (stream && video.videoWidth) said.textContent = await liveAnswer(model(), video);
      await new Promise((done) => setTimeout(done, PAUSE));
    }
  });
}

async function liveAnswer(model, video) {
  try {
    const { answer } = await predict(model, await frame(video), "live.jpg", 1);
    if (answer.unknown) return `unknown (${shown(answer.label)}?)`;
    const labels = answer.labels ?? [{ class: answer.label, probability: answer.probability }];
    return labels.map((one) => `${shown(one.class)} ${percent(one.probability)}`).join(" · ") || "none";
  } catch (problem) {
    await new Promise((done) => setTimeout(done, 1000 * Math.max(1, problem.wait ?? 1)));
    return problem.title ?? "The camera gave no picture";
  }
}

function frame(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((done, failed) => {
    const type = "image/jpeg";
    const made = (blob) => (blob ? done(new File([blob], "camera.jpg", { type })) : failed(new Error("no frame")));
    canvas.toBlob(made, type, 0.92);
  });
}

function stopTracks(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}
