"""Raw samples of Prometheus, as unbroken runs: the lives of series."""

from dataclasses import dataclass


@dataclass
class Run:
    """Samples of one series, one from each scrape of so many in a row."""

    labels: dict
    first: int  # the scrape, by its place among all
    times: list
    values: list

    @property
    def last(self):
        return self.first + len(self.values) - 1

    def falls(self):
        return sum(b < a for a, b in zip(self.values, self.values[1:]))

    def increase(self):
        """What was added from its first sample to its last. A fall is read as a restart."""
        pairs = zip(self.values, self.values[1:])
        return sum(b - a if b >= a else b for a, b in pairs)

    def selector(self):
        name = self.labels["__name__"]
        labels = {key: value for key, value in self.labels.items() if key != "__name__"}
        inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        return f"{name}{{{inner}}}"


def key(time):
    """Samples of one scrape have one time, to the millisecond."""
    return round(time * 1000)


def runs_of(matrix, scrapes):
    """The runs in what a range selector gives. `scrapes` are the times of all scrapes, in order."""
    place = {key(time): index for index, time in enumerate(scrapes)}
    runs = []
    for series in matrix:
        run = None
        for time, value in series["values"]:
            index = place[key(time)]
            if run is None or index != run.last + 1:
                run = Run(series["metric"], index, [], [])
                runs.append(run)
            run.times.append(time)
            run.values.append(float(value))
    return runs
