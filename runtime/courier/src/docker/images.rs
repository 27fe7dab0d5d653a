//! Images and the tags that name them: which one a tag names, and another one that the engine has already.

use std::time::Duration;

use hyper::Method;
use theriac_model::release::{ImageId, ImageTag};
use theriac_protocol::docker::DockerAnswer;

use super::engine::{Engine, Fault, LONGEST_ANSWER, LONGEST_NOTHING, no, readable};
use super::reading;

/// A tag is one line in the engine's store.
const POINT: Duration = Duration::from_secs(5);

impl Engine {
    /// What the tag names.
    pub(super) async fn image(&self, tag: &ImageTag) -> DockerAnswer {
        self.id_of(&tag.to_string()).await.map_or_else(Fault::of_look, DockerAnswer::Image)
    }

    /// Whether it is there.
    pub(super) async fn has_image(&self, id: &ImageId) -> DockerAnswer {
        self.there(id).await.map_or_else(Fault::of_look, |()| DockerAnswer::Image(id.clone()))
    }

    async fn there(&self, id: &ImageId) -> Result<(), Fault> {
        let found = self.id_of(id.as_str()).await?;
        if found == *id { Ok(()) } else { Err(Fault::Absent(format!("no image has the id {id}"))) }
    }

    /// Points the tag at another image, if it still names the first.
    pub(super) async fn point(&self, tag: &ImageTag, from: &ImageId, to: &ImageId) -> DockerAnswer {
        match self.id_of(&tag.to_string()).await {
            Ok(now) if now == *from => {}
            Ok(now) => return DockerAnswer::Stale(format!("{tag} is {now} by now")),
            Err(fault) => return fault.of_look(),
        }
        if let Err(fault) = self.there(to).await {
            return fault.of_look();
        }
        let (repository, tagged) = (tag.repository().replace('/', "%2F").replace(':', "%3A"), tag.tag());
        let target = format!("/images/{to}/tag?repo={repository}&tag={tagged}");
        match self.ask(Method::POST, &target, POINT, LONGEST_NOTHING).await {
            Ok(answer) if (200..300).contains(&answer.status) => {}
            Ok(answer) if answer.status >= 500 => return DockerAnswer::Lost(no(&answer)),
            Ok(answer) => return DockerAnswer::Failed(no(&answer)),
            Err(Fault::Lost(reason)) => return DockerAnswer::Lost(reason),
            Err(fault) => return fault.of_look(),
        }
        match self.id_of(&tag.to_string()).await {
            Ok(now) if now == *to => DockerAnswer::Image(now),
            Ok(now) => DockerAnswer::Lost(format!("{tag} is {now} after it was pointed at another one")),
            Err(_) => DockerAnswer::Lost("it was done, and can't be looked at afterwards".to_owned()),
        }
    }

    async fn id_of(&self, which: &str) -> Result<ImageId, Fault> {
        let answer = self.get(&format!("/images/{which}/json"), LONGEST_ANSWER).await?;
        readable(reading::image(&answer.body))
    }
}
