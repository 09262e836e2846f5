// The camera: one image of what it sees.

import { oneAtATime } from "/static/once.js";

const $ = (id) => document.getElementById(id);

// `onImage` gets a JPEG, `onProblem` why there is none.
export function offerCamera(onImage, onProblem) {
  const [open] = oneAtATime(async () => {
    try {
      $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      $("viewfinder").showModal();
    } catch (error) {
      onProblem(`The camera cannot be used: ${error.message}`);
    }
  });
  $("camera").addEventListener("click", open);
  $("shoot").addEventListener("click", () => {
    const video = $("video");
    const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const take = (image) => (image ? onImage(image) : onProblem("The camera has shown nothing yet: open it again, and wait for what it sees."));
    canvas.toBlob(take, "image/jpeg", 0.9);
    $("viewfinder").close();
  });
  $("close-camera").addEventListener("click", () => $("viewfinder").close());
  $("viewfinder").addEventListener("close", () => {
    for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
    $("video").srcObject = null;
  });
}
