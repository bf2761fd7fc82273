/** How the page is read: its words, and its keys. */
import type { View } from "./view";

export const HowTo = ({ view }: { view: View }) => {
  const recurs = view.problem.cell !== "dense";
  return (
    <details class="how">
      <summary>
        <h2>How to read this page: its words and keys</h2>
      </summary>
      <dl>
        <dt>Stage</dt>
        <dd>
          One small function, such as a product or tanh. Forward, the network is a chain of stages;
          each has a card, or a sign in a circle.
        </dd>
        <dt>Cotangent</dt>
        <dd>
          dX = ∂L/∂X, the derivative of the loss L with respect to X. It has the shape of X, and is
          written in orange below the value of X.
        </dd>
        <dt>Backward</dt>
        <dd>
          The same stages in reverse. Each takes the cotangent of what it made, multiplies it by its
          local derivative, and hands the cotangents of its inputs on.
        </dd>
        <dt>Fork</dt>
        <dd>
          Where a value is used more than once. The loss depends on it along every branch, so what
          comes back along the branches is added.
          {recurs &&
            " h goes outside and into the next step, c goes into tanh(c) and into the next step, x and h go into every gate, and a weight goes into every time step."}
        </dd>
        {recurs && (
          <>
            <dt>Outside</dt>
            <dd>
              Whatever h goes into besides the next step: a loss of this step, or another layer.
              dh_from_outside is what comes back from there.
            </dd>
            <dt>dh_T, dc_T</dt>
            <dd>
              What comes back to the last state from behind the end: given, and zero unless the last
              state itself is used.
            </dd>
            <dt>h_prev, c_prev</dt>
            <dd>The state that the step before handed on; h0 and c0 before the first step.</dd>
          </>
        )}
        <dt>Keys</dt>
        <dd>
          <kbd>→</kbd> <kbd>←</kbd> a stage; with <kbd>Shift</kbd> a time step; <kbd>space</kbd>{" "}
          plays; <kbd>Home</kbd> and <kbd>End</kbd>. A click on a card goes to its line. The address
          holds all that is set here: a link to it opens the same.
        </dd>
      </dl>
    </details>
  );
};
