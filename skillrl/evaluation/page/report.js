// One button plays and pauses every video; those of a figure keep to one clock. Without scripts each has its own controls.
const groups = [...document.querySelectorAll('.films')].map(figure => ({
  videos: [...figure.querySelectorAll('video')],
  slider: figure.querySelector('input'),
}));
const videos = groups.flatMap(group => group.videos);
const button = document.getElementById('play');
// People who asked for less motion press play.
let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches;

function show() {
  button.textContent = playing ? '❚❚ Pause videos' : '▶ Play videos';
  for (const video of videos) {
    if (!playing) video.pause();
    else if (video.paused) video.play().catch(error => { if (error.name == 'NotAllowedError') { playing = false; show(); } });
  }
  if (!playing) groups.forEach(align);
}

function toggle() { playing = !playing; show(); }

// The first video of a group is its clock. A gap counts round the loop: 0.1 s after the start is just past the end.
function align({videos: [clock, ...others]}) {
  for (const video of others) {
    const gap = Math.abs(video.currentTime - clock.currentTime);
    if (Math.min(gap, clock.duration - gap) > (playing ? 0.1 : 0)) video.currentTime = clock.currentTime;
  }
}

for (const group of groups) {
  const {videos, slider} = group, clock = videos[0];
  const tell = () => {
    if (!clock.duration) return;
    slider.max = clock.duration;
    slider.value = clock.currentTime;
    slider.setAttribute('aria-valuetext', `${clock.currentTime.toFixed(1)} of ${clock.duration.toFixed(1)} seconds`);
  };
  clock.addEventListener('timeupdate', () => { tell(); if (playing) align(group); });
  clock.addEventListener('loadedmetadata', tell);
  tell();  // it may have loaded before
  slider.addEventListener('input', () => { for (const video of videos) video.currentTime = slider.value; });
  for (const video of videos) {
    video.controls = false;
    video.addEventListener('click', toggle);
  }
  slider.closest('.time').hidden = false;
}
if (videos.length) {
  button.hidden = false;
  button.addEventListener('click', toggle);
  show();
}
