// The camera: one image of what it sees.

const $ = (id) => document.getElementById(id);

// `onImage` gets a PNG, `onProblem` why there is none.
export function offerCamera(onImage, onProblem) {
  $("camera").addEventListener("click", async () => {
    try {
      $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      $("viewfinder").showModal();
    } catch (error) {
      onProblem(`The camera cannot be used: ${error.message}`);
    }
  });
  $("shoot").addEventListener("click", () => {
    const video = $("video");
    const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob(onImage, "image/png");
    $("viewfinder").close();
  });
  $("close-camera").addEventListener("click", () => $("viewfinder").close());
  $("viewfinder").addEventListener("close", () => {
    for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
  });
}
